"""The ``onnx`` platform: ONNX models, run by onnxruntime."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from serving.core.cancellation import Cancellation
from serving.core.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServingError,
)
from serving.core.resources import ResourceAllocation
from serving.core.servable import (
    DEFAULT_SIGNATURE,
    Outputs,
    RunCallback,
    RunOptions,
    Signature,
)
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device, no_such_device
from serving.loaders.input_check import check_names
from serving.loaders.onnx_graph import check_groups, may_run_long, operator_set, scalars
from serving.loaders.onnx_settings import FATAL, OnnxSettings, read_onnx_settings
from serving.loaders.onnx_signature import as_array, checked, signature_of

log = logging.getLogger(__name__)

_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        member
        for member in vars(onnxruntime_pybind11_state).values()
        if isinstance(member, type) and issubclass(member, Exception)
    ),
)
"""What onnxruntime raises: a class for each of its codes, without a common one."""

RAM_PER_BYTE_ON_DISK = 2.5
"""Weights that convolutions have reordered for themselves stay twice."""

_MODEL = "model.onnx"
_OLDEST_OPERATORS = 7  # of those that onnxruntime has
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_ORIGIN = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+:\d+ .*?\) ")
"""Where in its own program onnxruntime found an error, which it says inside the text."""
_RESOLVED = re.compile(r' resolved path: ".*')
"""Where weights were found to lie that are not allowed to lie there."""
_CUDA_TROUBLE = re.compile(r"\bCU(DA|DNN|BLAS)")


class OnnxPlatform:
    """Loads the ``model.onnx`` of a version directory, or the one ``*.onnx`` file there.

    Runs on a CUDA device where onnxruntime has one, else on the processor. Thread-safe.
    """

    def __init__(self) -> None:
        available = onnxruntime.get_available_providers()
        self._providers = [provider for provider in (_CUDA, _CPU) if provider in available]
        if _CUDA in self._providers:
            onnxruntime.preload_dlls()  # those that NVIDIA's own packages bring

    @property
    def devices(self) -> Sequence[Device]:
        """The processor, and the first GPU where onnxruntime has CUDA."""
        return [CPU, Device("gpu")] if _CUDA in self._providers else [CPU]

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory the model is expected to need: 2.5 times its files, weights included.

        Raises InvalidArgument for files that can not be looked at.
        """
        try:
            _model_file(path)
            size_bytes = sum(
                (Path(folder) / file).stat().st_size
                for folder, _, files in os.walk(path)
                for file in files
            )
        except OSError as error:
            raise InvalidArgument(f"the model can not be read: {error.strerror}") from error
        return ResourceAllocation.ram(int(RAM_PER_BYTE_ON_DISK * size_bytes))

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> OnnxServable:
        """The model, ready to run. Weights in files of their own lie in the same directory.

        One that onnxruntime is too new for is upgraded, in memory.

        On a GPU, operations that are not made for it run on the processor. Raises NotFound without
        a model, InvalidArgument for one that onnxruntime does not take and for a wrong settings
        file, FailedPrecondition for a device that it does not have or can not use.
        """
        settings = read_onnx_settings(path)
        try:
            file = _model_file(path)
            try:
                return self._servable(servable_id, file, device, settings)
            except InvalidArgument:
                version = operator_set(file)
                if version is None or version >= _OLDEST_OPERATORS:
                    raise
            from serving.loaders.onnx_legacy import upgraded  # noqa: PLC0415 - few need ONNX's own

            return self._servable(servable_id, upgraded(file), device, settings)
        except OSError as error:
            raise InvalidArgument(f"the model can not be read: {error.strerror}") from error

    def load_model(
        self, servable_id: ServableId, model: bytes, path: str, device: Device | None = None
    ) -> OnnxServable:
        """A model that is a serialized ModelProto, with all of its weights in it; the settings
        file is in the version directory ``path``.

        Raises as :meth:`load` does.
        """
        return self._servable(servable_id, model, device, read_onnx_settings(path))

    def _servable(
        self,
        servable_id: ServableId,
        model: Path | bytes,
        device: Device | None,
        settings: OnnxSettings,
    ) -> OnnxServable:
        """``model`` is a file, or what would be in it."""
        check_groups(model)
        try:
            providers = self._providers_for(servable_id, device, settings)
            session = _session(model, providers, device, settings)
        except _ERRORS as error:
            text = _text(error)
            if isinstance(model, Path):
                text = _without_paths(text, model.parent)
            if device and _CUDA_TROUBLE.search(text):
                raise FailedPrecondition(
                    f"{servable_id} can not be loaded on {device}: {text}"
                ) from error
            raise InvalidArgument(f"the ONNX model can not be loaded: {text}") from error
        log.info("%s runs on %s", servable_id, device or ", ".join(session.get_providers()))
        signature = signature_of(session, scalars(model))
        return OnnxServable(servable_id, session, signature, may_run_long=may_run_long(model))

    def _providers_for(
        self, servable_id: ServableId, device: Device | None, settings: OnnxSettings
    ) -> Sequence[Any]:
        """What onnxruntime is to run operations with, the first that can."""
        cuda = dict(settings.cuda_options)
        if device is None:
            return [(name, cuda) if name == _CUDA else name for name in self._providers]
        if device == CPU:
            return [_CPU]
        if device.kind == CPU.kind or _CUDA not in self._providers:
            raise no_such_device(servable_id, device, [CPU])
        return [(_CUDA, {**cuda, "device_id": str(device.number)}), _CPU]


class OnnxServable:
    """An ONNX model in memory; implements Servable. ``done`` is called on the caller's thread."""

    def __init__(
        self, servable_id: ServableId, session: Any, signature: Signature, *, may_run_long: bool
    ) -> None:
        """``may_run_long``: whether the model has loops, which may take any time, however quick
        they were.
        """
        self._id = servable_id
        self._session = session
        self.may_run_long = may_run_long
        self._inputs = {info.name: info for info in signature.inputs.values()}
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Compute while the calling thread waits, without the interpreter lock.

        A cancellation ends the run between two of the model's operations, with CANCELLED. A run
        whose deadline has passed is not begun.
        """
        if options.deadline is not None and options.deadline <= time.monotonic():
            done(DeadlineExceeded("The deadline passed before the run began"))
        else:
            done(self._result(feeds, fetches, options.cancellation))

    def close(self) -> None:
        self._session = None

    def _result(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        cancellation: Cancellation | None,
    ) -> Outputs | ServingError:
        try:
            outputs = self._outputs(self._arguments(feeds), fetches, cancellation)
            return [as_array(output) for output in outputs]
        except ServingError as error:
            return error
        except _ERRORS as error:
            if cancellation is not None and cancellation.cancelled:
                return Cancelled("the run was cancelled")
            return _run_error(_text(error))
        except Exception:  # a defect, which must not leave the caller without an answer
            log.exception("a run of %s failed", self._id)
            return Internal("the run failed unexpectedly")

    def _outputs(
        self,
        arguments: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        cancellation: Cancellation | None,
    ) -> Sequence[Any]:
        options = onnxruntime.RunOptions()
        options.log_severity_level = FATAL

        def terminate() -> None:
            options.terminate = True

        if cancellation is not None:
            cancellation.when_cancelled(terminate)
        try:
            outputs: Sequence[Any] = self._session.run(fetches, arguments, options)
        finally:
            if cancellation is not None:
                cancellation.forget(terminate)
        return outputs

    def _arguments(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        check_names(self._inputs, feeds)
        return {name: checked(info, feeds[name]) for name, info in self._inputs.items()}

    def __repr__(self) -> str:
        return f"<OnnxServable {self._id}>"


def _session(
    model: Path | bytes, providers: Sequence[Any], device: Device | None, settings: OnnxSettings
) -> Any:
    """Where a device was asked for nothing else will do: left to itself, onnxruntime falls back to
    the processor, with no more than a warning.
    """
    content = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(
        content, settings.session_options, providers=providers, enable_fallback=device is None
    )
    if device and device != CPU and _CUDA not in session.get_providers():
        raise RuntimeError("CUDA can not be used")
    return session


def _model_file(path: str) -> Path:
    # Not a glob, which passes over a directory that may not be read.
    candidates = [child for child in Path(path).iterdir() if child.suffix == ".onnx"]
    named = [child for child in candidates if child.name == _MODEL]
    if named:
        return named[0]
    if len(candidates) != 1:
        raise NotFound(
            f"a version is one {_MODEL}, or one .onnx file of another name, "
            f"but there are {len(candidates)}"
        )
    return candidates[0]


def _text(error: Exception) -> str:
    return _ORIGIN.sub("", str(error)).strip()


def _without_paths(text: str, version: Path) -> str:
    text = _RESOLVED.sub("", text)
    for path in (str(version.resolve()), str(version)):
        text = text.replace(f"{path}/", "").replace(path, "the version's directory")
    return text


def _run_error(text: str) -> ServingError:
    """Operations judge the values they are given, and most of them say no more than that they fail.

    So what neither memory nor a device is the reason of counts as the request's fault.
    """
    if "Failed to allocate memory" in text or "out of memory" in text:
        return ResourceExhausted(text)
    if _CUDA_TROUBLE.search(text):
        return Internal(text)
    return InvalidArgument(text)
