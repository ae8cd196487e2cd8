"""One interpreter of a TensorFlow Lite model: tensors in, tensors out, errors as ServingErrors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from serving.core.dtypes import dtype_of, numpy_dtype
from serving.core.errors import Internal, InvalidArgument
from serving.loaders.tflite_signatures import Entry, Tensor

_FAILURES = (ValueError, RuntimeError, OverflowError, MemoryError)
"""What the interpreter raises, whatever is wrong."""

_ORIGIN = re.compile(r"\S+\.(cc|h):\d+:? ?")
"""Where in its own program it found an error, which it says inside the text."""


class TfLiteInterpreter:
    """Does one run at a time, on whatever thread. What runs allocate is kept for the next.

    Raises InvalidArgument for a file that the interpreter does not take, and Internal for one that
    it has not the operations of.
    """

    def __init__(self, content: bytes) -> None:
        """``content``: the file, which is not copied."""
        self._content = content
        self._native = self._made()
        self._shapes: dict[int | str, tuple[int, ...]] = {}

    def run(
        self, entry: Entry, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        """The fetches, each an array of its own; the inputs take on the shapes of the feeds.

        ``fetches`` are outputs of the entry. Raises InvalidArgument for feeds that are not its
        inputs or not of their types, and Internal for a run that fails, if only by its shapes.
        """
        # All of them: what is not set holds an earlier call's values, and strings lead nowhere.
        if feeds.keys() != entry.inputs.keys():
            wanted, given = ", ".join(entry.inputs), ", ".join(feeds)
            raise InvalidArgument(f"the model's inputs are {wanted}, not {given}")
        for name, tensor in entry.inputs.items():
            _check(tensor, feeds[name])
        try:
            if entry.signature is None:
                return self._run_main(entry, feeds, fetches)
            return self._run_signature(entry, entry.signature, feeds, fetches)
        except _FAILURES as error:
            # It is left half prepared, and would put this error's text before those of others.
            self._shapes.clear()  # first: where none can be made, this one allocates anew
            self._native = self._made()
            raise Internal(f"Failed to invoke TfLite interpreter: {_text(error)}") from None

    def _run_main(
        self, entry: Entry, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        native, shapes = self._native, self._shapes
        resized = False
        for name, tensor in entry.inputs.items():
            shape = feeds[name].shape
            if shapes.get(tensor.handle) != shape:
                native.resize_tensor_input(tensor.handle, shape)
                shapes[tensor.handle] = shape
                resized = True
        if resized:
            native.allocate_tensors()
        for name, tensor in entry.inputs.items():
            native.set_tensor(tensor.handle, feeds[name])
        native.invoke()
        return [native.get_tensor(entry.outputs[name].handle) for name in fetches]

    def _run_signature(
        self, entry: Entry, key: str, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        """Three times as slow, but the only way into a graph that is not the main one."""
        runner = self._native.get_signature_runner(key)
        outputs = runner(**{str(entry.inputs[name].handle): feed for name, feed in feeds.items()})
        return [outputs[entry.outputs[name].handle] for name in fetches]

    def _made(self) -> Interpreter:
        try:
            native = Interpreter(model_content=self._content)
        except _FAILURES as error:
            raise InvalidArgument(f"Cannot build Interpreter from buffer: {_text(error)}") from None
        try:
            native.allocate_tensors()
        except _FAILURES as error:
            raise Internal(f"Failed to allocate tensors: {_text(error)}") from None
        return native


def _check(tensor: Tensor, array: np.ndarray) -> None:
    info = tensor.info
    if array.dtype != numpy_dtype(info.dtype):
        raise InvalidArgument(
            f"input '{info.name}' must be {info.dtype.label}, not {dtype_of(array).label}"
        )


def _text(error: Exception) -> str:
    return _ORIGIN.sub("", str(error)).strip()
