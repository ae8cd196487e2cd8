"""How SavedModels are loaded and run; importing this does not import TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from serving.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class TensorFlowOptions:
    """Settings of every TensorFlow session in the process.

    ``tags`` must equal the tag set of one graph in the SavedModel. Parallelism counts threads; 0
    leaves the choice to ``session_config`` or to TensorFlow. ``session_config`` is a serialized
    tensorflow.ConfigProto that the other fields are written over. ``mixed_precision`` is empty or
    ``bfloat16``; anything else is logged and ignored. Without either XLA switch TensorFlow does
    not cluster operations for XLA by itself. ``custom_op_libraries`` are shared libraries, or
    directories of them, that models need operations of. Raises InvalidArgument when all three
    parallelism fields are set, or the memory fraction is negative.
    """

    tags: tuple[str, ...] = ("serve",)
    session_parallelism: int = 0
    intra_op_parallelism: int = 0
    inter_op_parallelism: int = 0
    per_process_gpu_memory_fraction: float = 0.0
    session_config: bytes = b""
    mixed_precision: str = ""
    xla_cpu_compilation_enabled: bool = False
    xla_gpu_compilation_enabled: bool = False
    custom_op_libraries: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.session_parallelism, self.intra_op_parallelism, self.inter_op_parallelism) > 0:
            raise InvalidArgument(
                "tensorflow_session_parallelism cannot be combined with both "
                "tensorflow_intra_op_parallelism and tensorflow_inter_op_parallelism"
            )
        if self.per_process_gpu_memory_fraction < 0:
            raise InvalidArgument(
                "per_process_gpu_memory_fraction must not be negative: "
                f"{self.per_process_gpu_memory_fraction}"
            )
