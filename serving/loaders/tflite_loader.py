"""The ``tflite`` platform: TensorFlow Lite models, run by LiteRT's interpreter."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.core.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
)
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs, RunCallback, RunOptions, Signature
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device, no_such_device
from serving.loaders.tflite_interpreter import TfLiteInterpreter
from serving.loaders.tflite_options import MODEL_FILE, TfLiteOptions
from serving.loaders.tflite_signatures import Entry, TfLiteSignatures, read_signatures

log = logging.getLogger(__name__)

_EXPIRED = "The deadline passed before the run began"


class TfLitePlatform:
    """Loads the ``model.tflite`` of a version directory. Thread-safe."""

    def __init__(self, options: TfLiteOptions) -> None:
        self._num_interpreters = max(1, options.num_interpreters)

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory: the file, and as much again for each interpreter, which may rearrange the
        weights for itself.

        Raises NotFound without a model, InvalidArgument for one that can not be looked at.
        """
        try:
            size_bytes = _model_file(path).stat().st_size
        except OSError as error:
            raise _unreadable(error) from error
        return ResourceAllocation.ram((1 + self._num_interpreters) * size_bytes)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> TfLiteServable:
        """The model, with all its interpreters, which run on the processor.

        Raises FailedPrecondition for another device, NotFound without a model, InvalidArgument for
        a file that is damaged or has wrong signatures, Internal where operations are not known or
        signatures name unknown tensors.
        """
        if device not in (None, CPU):
            raise no_such_device(servable_id, device, [CPU])
        try:
            # Not mapped into memory: a file that is cut short would end the process.
            content = _model_file(path).read_bytes()
        except OSError as error:
            raise _unreadable(error) from error
        if not content:
            raise InvalidArgument(f"Cannot build Interpreter from buffer: {MODEL_FILE} is empty")
        # The first interpreter verifies the file, before anything else reads in it.
        interpreters = [TfLiteInterpreter(content)]
        signatures = read_signatures(content)
        while len(interpreters) < self._num_interpreters:
            interpreters.append(TfLiteInterpreter(content))
        return TfLiteServable(servable_id, interpreters, signatures)


class TfLiteServable:
    """A TensorFlow Lite model in memory; a BoundedServable.

    ``done`` is called on the caller's thread, which waits for an interpreter if none is free.
    """

    def __init__(
        self,
        servable_id: ServableId,
        interpreters: Sequence[TfLiteInterpreter],
        signatures: TfLiteSignatures,
    ) -> None:
        self._id = servable_id
        self._signatures = signatures
        self._entries = {name: entry for entry in signatures.entries for name in entry.outputs}
        self._free: queue.SimpleQueue[TfLiteInterpreter] = queue.SimpleQueue()
        for interpreter in interpreters:
            self._free.put(interpreter)
        self._max_runs = len(interpreters)

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures.signatures

    @property
    def max_runs(self) -> int:
        return self._max_runs

    @property
    def may_run_long(self) -> bool:
        """Whether the model has loops, which may take any time, however quick they were."""
        return self._signatures.has_loops

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Compute while the calling thread waits, without the interpreter lock.

        A run whose deadline has passed is not begun; one that has begun goes on to its end.
        """
        done(self._result(feeds, fetches, options.deadline))

    def close(self) -> None:
        while not self._free.empty():
            self._free.get()

    def _result(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: float | None
    ) -> Outputs | ServingError:
        try:
            entry = self._entry(fetches)
            interpreter = self._interpreter(deadline)
            try:
                return interpreter.run(entry, feeds, fetches)
            finally:
                self._free.put(interpreter)
        except ServingError as error:
            return error
        except Exception:  # a defect, which must not leave the caller without an answer
            log.exception("a run of %s failed", self._id)
            return Internal("the run failed unexpectedly")

    def _entry(self, fetches: Sequence[str]) -> Entry:
        """The graph that all the fetches are outputs of."""
        entry = self._entries.get(fetches[0]) if fetches else self._signatures.entries[0]
        for name in fetches:
            if entry is None or name not in entry.outputs:
                raise Internal(f"Missing output TFLite tensor: {name}: Unknown tensor '{name}'.")
        assert entry is not None  # the first of the fetches would have been unknown
        return entry

    def _interpreter(self, deadline: float | None) -> TfLiteInterpreter:
        seconds = None if deadline is None else deadline - time.monotonic()
        if seconds is not None and seconds <= 0:
            raise DeadlineExceeded(_EXPIRED)
        try:
            return self._free.get(timeout=seconds)
        except queue.Empty:
            raise DeadlineExceeded(_EXPIRED) from None

    def __repr__(self) -> str:
        return f"<TfLiteServable {self._id}>"


def _model_file(path: str) -> Path:
    file = Path(path, MODEL_FILE)
    if not file.is_file():
        raise NotFound(f"a version is one {MODEL_FILE}, which there is not")
    return file


def _unreadable(error: OSError) -> InvalidArgument:
    return InvalidArgument(f"the model can not be read: {error.strerror}")
