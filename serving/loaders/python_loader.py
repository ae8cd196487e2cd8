"""The ``python`` platform: a user's own class, run in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from serving.core.clock import SystemClock
from serving.core.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs, Signature, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.input_check import mismatch
from serving.loaders.model_file import unreadable
from serving.loaders.python_instance import PythonInstance
from serving.loaders.python_options import PythonOptions
from serving.loaders.python_process import PythonProcess
from serving.loaders.python_worker_file import read_worker_file
from serving.loaders.signature_file import DeclaredSignature, parse_signature, read_signature_file

_MODEL = "model.py"
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


class PythonPlatform:
    """Loads the ``model.py`` of a version directory, where that is allowed. Thread-safe."""

    def __init__(self, options: PythonOptions | None = None) -> None:
        self._options = options or PythonOptions()

    def estimate(self, path: str) -> ResourceAllocation:
        """The process's limit of memory, or the size of the version's files where it has none."""
        settings = read_worker_file(path)
        if settings.memory_limit_bytes:
            return ResourceAllocation.ram(settings.memory_limit_bytes)
        try:
            files = [file for file in Path(path).rglob("*") if file.is_file()]
            return ResourceAllocation.ram(sum(file.stat().st_size for file in files))
        except OSError as error:
            raise unreadable(error) from error

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> PythonServable:
        """The model in a new process, which ``device`` hides all GPUs but its own from.

        Raises NotFound without a ``model.py``, FailedPrecondition where it is not allowed or its
        interpreter is not there, InvalidArgument for files that are wrong and a model that does not
        load, DeadlineExceeded for one that takes too long.
        """
        if not (Path(path) / _MODEL).is_file():
            raise NotFound(f"a version has a {_MODEL}, but there is none")
        if not self._options.allow:
            raise FailedPrecondition(
                f"{_MODEL} is a program, which may do whatever the server may: "
                "--allow_python_models runs it, in a process of its own"
            )
        start = partial(
            PythonProcess,
            servable_id,
            str(Path(path).absolute()),
            read_worker_file(path),
            _environment(device),
        )
        by_file = read_signature_file(path)
        instance = PythonInstance(servable_id, start, SystemClock())
        try:
            signature = _signature(by_file, parse_signature(instance.declared, _MODEL))
        except BaseException:
            instance.close()
            raise
        return PythonServable(servable_id, signature, instance)


class PythonServable(FunctionServable):
    """A model in a process, which does one run at a time; implements BoundedServable."""

    max_runs = 1

    def __init__(
        self, servable_id: ServableId, signature: Signature, instance: PythonInstance
    ) -> None:
        """``instance`` is this servable's from now on."""
        self._instance = instance
        self._outputs = signature.outputs
        super().__init__(servable_id, signature, self._computed, refusals=(), may_run_long=True)

    def close(self) -> None:
        """End the process. Returns when it is gone."""
        super().close()
        self._instance.close()

    def _computed(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
        answered = self._instance.run(feeds, fetches)
        return [_checked(self._outputs[fetch], answered) for fetch in fetches]


def _checked(info: TensorInfo, answered: Mapping[str, np.ndarray]) -> np.ndarray:
    """The model's answer for an output; raises Internal where it is not what it declared."""
    if info.name not in answered:
        raise Internal(f"the model answered no output '{info.name}'")
    array = answered[info.name]
    if wrong := mismatch(info, array):
        raise Internal(f"the model's output '{info.name}' {wrong}")
    return array


def _signature(by_file: DeclaredSignature, by_class: DeclaredSignature) -> Signature:
    """What the file says counts, then what the class does."""
    inputs, outputs = by_file.inputs or by_class.inputs, by_file.outputs or by_class.outputs
    for role, tensors in (("inputs", inputs), ("outputs", outputs)):
        if tensors is None:
            raise InvalidArgument(f"neither the class Model nor signature.json says its {role}")
    assert inputs is not None
    assert outputs is not None
    return Signature(inputs, outputs, method_name="tensorflow/serving/predict")


def _environment(device: Device | None) -> Mapping[str, str]:
    """The server's, where a device was asked for with no GPU but that one, of those it sees."""
    if device is None:
        return os.environ
    visible = os.environ.get(_VISIBLE_GPUS)
    number = str(device.number) if device.kind == "gpu" else ""
    if visible is not None and number:
        numbers = visible.split(",")
        number = numbers[device.number] if device.number < len(numbers) else ""
    return {**os.environ, _VISIBLE_GPUS: number}
