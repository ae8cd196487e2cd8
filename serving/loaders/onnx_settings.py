"""``onnxruntime.json``, which says how onnxruntime runs a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime

from serving.loaders.settings_file import check_choice, check_count, read_settings

SETTINGS_FILE = "onnxruntime.json"

_MOST_THREADS = 256
_MODES = {
    "sequential": onnxruntime.ExecutionMode.ORT_SEQUENTIAL,
    "parallel": onnxruntime.ExecutionMode.ORT_PARALLEL,
}
_LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
FATAL = 4
"""Of onnxruntime's log levels: what fails a load or a run comes as an exception."""


@dataclass(frozen=True, slots=True)
class OnnxSettings:
    """What stands in the file; 0 and the empty string leave onnxruntime its own way.

    Only these of onnxruntime's options: others name libraries that it loads and files that it
    writes. Raises InvalidArgument, naming the value, for one that is none.
    """

    intra_op_threads: int = 0
    inter_op_threads: int = 0
    execution_mode: str = ""
    graph_optimization_level: str = ""
    gpu_memory_limit_bytes: int = 0

    def __post_init__(self) -> None:
        for name in ("intra_op_threads", "inter_op_threads"):
            check_count(SETTINGS_FILE, name, getattr(self, name), _MOST_THREADS)
        check_choice(SETTINGS_FILE, "execution_mode", self.execution_mode, tuple(_MODES))
        level = self.graph_optimization_level
        check_choice(SETTINGS_FILE, "graph_optimization_level", level, tuple(_LEVELS))
        limit = self.gpu_memory_limit_bytes
        check_count(SETTINGS_FILE, "gpu_memory_limit_bytes", limit, 2**63 - 1)

    @property
    def session_options(self) -> Any:
        """Onnxruntime's, of a session of its own."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        # Threads that wait busily would take the processors from all the other models.
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        options.intra_op_num_threads = self.intra_op_threads
        options.inter_op_num_threads = self.inter_op_threads
        if self.execution_mode:
            options.execution_mode = _MODES[self.execution_mode]
        if self.graph_optimization_level:
            options.graph_optimization_level = _LEVELS[self.graph_optimization_level]
        return options

    @property
    def cuda_options(self) -> Mapping[str, str]:
        """Those of onnxruntime's CUDA provider."""
        limit = self.gpu_memory_limit_bytes
        return {"gpu_mem_limit": str(limit)} if limit else {}


def read_onnx_settings(directory: str) -> OnnxSettings:
    """What the file of a version says; the defaults where there is none.

    Raises InvalidArgument for one that is not as documented.
    """
    return read_settings(directory, SETTINGS_FILE, OnnxSettings)
