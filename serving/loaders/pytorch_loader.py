"""The ``pytorch`` platform: exported programs and TorchScript, run by PyTorch."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Threads of one run that wait busily would take the processors from all the others. PyTorch's read
# this as it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# TensorFlow and Triton both bring LLVM: Triton, which PyTorch imports where it is installed, ends a
# process that TensorFlow is in. It compiles models, which nothing here does.
if "triton" not in sys.modules:
    sys.modules["triton"] = None  # type: ignore[assignment]  # as if it were not installed

import numpy as np
import torch

from serving.core.dtypes import DType
from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
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
from serving.loaders.input_check import check_input, check_names
from serving.loaders.model_file import model_file, ram_of_file, unreadable
from serving.loaders.pytorch_archive import EXPORTED, PICKLE, SCRIPT, kind_of
from serving.loaders.pytorch_conversion import read_dtype
from serving.loaders.pytorch_exported import load_exported
from serving.loaders.pytorch_program import PyTorchProgram
from serving.loaders.pytorch_script import load_script
from serving.loaders.pytorch_tensors import array_of, pinned_empty, tensor_of

log = logging.getLogger(__name__)

_SUFFIXES: Mapping[str, str] = {".pt2": EXPORTED, ".pt": SCRIPT, ".pth": SCRIPT, ".ts": SCRIPT}
"""Those of the files that are models, and what they hold."""
_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What PyTorch raises of what is wrong with a model or with its inputs."""
_LOAD_ERRORS = (*_ERRORS, AssertionError, EOFError, MemoryError, pickle.UnpicklingError)
_RAM_PER_BYTE_ON_DISK = 2
_RAM_OF_A_GRAPH_BYTES = 2**24


class PyTorchPlatform:
    """Loads the one file of a version directory that is called as a model is: see _SUFFIXES.

    Runs on the first CUDA device where there is one, else on the processor. Thread-safe.
    """

    @property
    def devices(self) -> Sequence[Device]:
        """The processor, and those that PyTorch has CUDA for."""
        return _devices()

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory the model is expected to need: twice its file, and 16 MiB for its graph.

        Raises NotFound without a model, InvalidArgument for one that can not be looked at.
        """
        model = ram_of_file(model_file(path, tuple(_SUFFIXES)), _RAM_PER_BYTE_ON_DISK)
        return model + ResourceAllocation.ram(_RAM_OF_A_GRAPH_BYTES)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> PyTorchServable:
        """The model, ready to run on the device.

        Raises NotFound without a model, InvalidArgument for a file that is no such model, is
        damaged or is not safe to read, FailedPrecondition for a device that PyTorch does not have.
        """
        where = _torch_device(servable_id, device)
        try:
            file = model_file(path, tuple(_SUFFIXES))
            program = _program(file, where, read_dtype(str(file.parent)))
        except OSError as error:
            raise unreadable(error) from error
        except _LOAD_ERRORS as error:
            text = _text(error).replace(f"{os.path.realpath(path)}/", "").replace(f"{path}/", "")
            if device is not None and _is_device_trouble(error):
                raise FailedPrecondition(
                    f"{servable_id} can not be loaded on {device}: {text}"
                ) from error
            raise InvalidArgument(f"the PyTorch model can not be loaded: {text}") from error
        log.info("%s runs on %s", servable_id, where)
        return PyTorchServable(servable_id, program, where)


class PyTorchServable:
    """A PyTorch model in memory; implements Servable. ``done`` is called on the caller's thread."""

    def __init__(
        self, servable_id: ServableId, program: PyTorchProgram, device: torch.device
    ) -> None:
        self._id = servable_id
        self._device = device
        self._program: PyTorchProgram | None = program
        self._copies = program.writes_in_place and device.type == CPU.kind
        self._inputs = program.signature.inputs
        self._outputs = {name: index for index, name in enumerate(program.signature.outputs)}
        self.may_run_long = program.may_run_long
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: program.signature}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Compute while the calling thread waits.

        A run whose deadline has passed is not begun; one that has begun goes on to its end.
        """
        if options.deadline is not None and options.deadline <= time.monotonic():
            done(DeadlineExceeded("The deadline passed before the run began"))
        else:
            done(self._result(feeds, fetches))

    def input_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Page-locked memory where the model runs on a GPU; implements InputBuffers."""
        if self._device.type == CPU.kind or dtype.hasobject:
            return np.empty(shape, dtype)
        return pinned_empty(shape, dtype)

    def close(self) -> None:
        self._program = None
        gc.collect()  # PyTorch's graphs refer to themselves, and hold the weights
        if self._device.type != CPU.kind:
            torch.cuda.empty_cache()

    def _result(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> Outputs | ServingError:
        try:
            return self._computed(feeds, fetches)
        except ServingError as error:
            return error
        except _ERRORS as error:
            return _run_error(error)
        except Exception:  # a defect, which must not leave the caller without an answer
            log.exception("a run of %s failed", self._id)
            return Internal("the run failed unexpectedly")

    def _computed(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
        program = self._program
        if program is None:
            raise FailedPrecondition("the model was unloaded")
        check_names(self._inputs, feeds)
        for name, info in self._inputs.items():
            if info.dtype is not DType.INVALID:
                check_input(info, feeds[name])
        program.check_shapes({name: array.shape for name, array in feeds.items()})
        with torch.inference_mode():
            tensors = {name: self._tensor(array) for name, array in feeds.items()}
            outputs = program.run(tensors)
            if len(outputs) != len(self._outputs):
                raise Internal(f"the model gave {len(outputs)} outputs, not {len(self._outputs)}")
            return [
                array_of(name, outputs[self._outputs[name]], own=self._copies) for name in fetches
            ]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        # A copy in the memory of a GPU is the model's own, whatever it does.
        tensor = tensor_of(array, own=self._copies)
        return (
            tensor if self._device.type == CPU.kind else tensor.to(self._device, non_blocking=True)
        )

    def __repr__(self) -> str:
        return f"<PyTorchServable {self._id}>"


def _torch_device(servable_id: ServableId, device: Device | None) -> torch.device:
    there = _devices()
    if device is None:
        device = there[min(1, len(there) - 1)]
    if device not in there:
        raise no_such_device(servable_id, device, there)
    return torch.device("cpu") if device == CPU else torch.device("cuda", device.number)


def _devices() -> Sequence[Device]:
    """The processor, and then the GPUs."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [CPU, *(Device("gpu", number) for number in range(count))]


def _program(file: Path, device: torch.device, dtype: torch.dtype | None) -> PyTorchProgram:
    """What the suffix says is what the file has to be: nothing is read as something else."""
    wanted, kind = _SUFFIXES[file.suffix], kind_of(file)
    if kind == PICKLE:
        raise InvalidArgument(
            f"{file.name} is a pickle, as torch.save writes of modules and state dicts, which "
            "could run any code: save the model with torch.export.save, as .pt2"
        )
    if kind != wanted:
        what = f"but {kind}" if kind else "and no other model of PyTorch's that is whole"
        raise InvalidArgument(f"{file.name} is not {wanted}, {what}")
    return (load_exported if kind == EXPORTED else load_script)(file, device, dtype)


def _text(error: Exception) -> str:
    """The line that says what is wrong, without the places in programs where that was found."""
    text = str(error).partition("\nException raised from ")[0]
    _, _, in_script = text.rpartition("\nRuntimeError: ")
    return (in_script or text).strip().partition("\n")[0] or type(error).__name__


def _is_device_trouble(error: Exception) -> bool:
    return isinstance(error, (torch.AcceleratorError, torch.OutOfMemoryError))


def _run_error(error: Exception) -> ServingError:
    """Operators judge the values that they are given; what neither memory nor a device is the
    reason of counts as the request's fault.
    """
    text = _text(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return ResourceExhausted(text)
    if _is_device_trouble(error):
        return Internal(text)
    return InvalidArgument(text)
