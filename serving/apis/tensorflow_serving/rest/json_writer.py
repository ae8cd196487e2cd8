"""Response bodies as RapidJSON's pretty printer lays them out, from arrays."""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from serving.apis.tensorflow_serving.rest.json_numbers import decimal_texts
from serving.core.dtypes import DType, dtype_of
from serving.core.errors import InvalidArgument

_INDENT = "    "
_INTEGERS = frozenset(
    {DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8, DType.UINT32, DType.UINT64}
)
_quoted = json.JSONEncoder(ensure_ascii=False).encode


def predictions(outputs: Mapping[str, np.ndarray]) -> bytes:
    """``{"predictions": [...]}``: one value a row, or one object a row where there are several.

    A row's lists stand on one line. Raises InvalidArgument when the outputs are not batches of
    one size, or their elements cannot be written.
    """
    rows = _batch_size(outputs)
    if len(outputs) > 1:
        columns = {alias: _row_texts(alias, outputs[alias], depth=3) for alias in sorted(outputs)}
        texts = [
            _object({alias: column[row] for alias, column in columns.items()}, depth=2)
            for row in range(rows)
        ]
        return _document("predictions", _block("[", texts, "]", depth=1))
    ((alias, array),) = outputs.items()
    line = ", ".join(_row_texts(alias, array, depth=2))
    return _document("predictions", f"[{line}\n{_INDENT}]" if rows else "[]")


def outputs(outputs: Mapping[str, np.ndarray]) -> bytes:
    """``{"outputs": ...}``: the whole tensor, or one object of them where there are several.

    Every list element stands on a line of its own. Raises InvalidArgument when elements cannot be
    written.
    """
    if len(outputs) > 1:
        texts = {alias: _tensor_text(alias, outputs[alias], depth=2) for alias in sorted(outputs)}
        return _document("outputs", _object(texts, depth=1))
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    ((alias, array),) = outputs.items()
    return _document("outputs", _tensor_text(alias, array, depth=1))


def classifications(classes: np.ndarray | None, scores: np.ndarray | None) -> bytes:
    """``{"results": [...]}``: a list of ``[label, score]`` for each row of [rows, classes].

    A part that is None reads as empty labels or zeros.
    """
    shape = next(array.shape for array in (classes, scores) if array is not None)
    labels = np.full(shape, b"", np.object_) if classes is None else classes
    numbers = np.zeros(shape, np.float32) if scores is None else scores
    pairs = [
        f"[{_quoted(_text(label))}, {number}]"
        for label, number in zip(labels.ravel().tolist(), decimal_texts(numbers), strict=True)
    ]
    rows, size = shape
    lines = [f"[{', '.join(pairs[row * size : (row + 1) * size])}]" for row in range(rows)]
    return _document("results", f"[{', '.join(lines)}\n{_INDENT}]")


def regressions(values: np.ndarray) -> bytes:
    """``{"results": [...]}``: one number for each row of [rows]."""
    return _document("results", f"[{', '.join(decimal_texts(values))}]")


def error(message: str) -> bytes:
    """``{"error": "..."}``."""
    return _document("error", _quoted(message))


def _document(key: str, text: str) -> bytes:
    """``key`` is a plain word."""
    return f'{{\n{_INDENT}"{key}": {text}\n}}'.encode("utf-8", "surrogateescape")


def _object(members: Mapping[str, str], depth: int) -> str:
    return _block("{", [f"{_quoted(key)}: {text}" for key, text in members.items()], "}", depth)


def _block(opening: str, items: Sequence[str], closing: str, depth: int) -> str:
    """Items on lines of their own; ``depth`` counts the brackets around this one."""
    if not items:
        return opening + closing
    outside = "\n" + _INDENT * depth
    inside = outside + _INDENT
    return f"{opening}{inside}{f',{inside}'.join(items)}{outside}{closing}"


def _batch_size(outputs: Mapping[str, np.ndarray]) -> int:
    size: int | None = None
    for alias in sorted(outputs):
        array = outputs[alias]
        if not array.ndim:
            raise InvalidArgument(f"Tensor name: {alias} has no shape information ")
        if size is not None and size != array.shape[0]:
            raise InvalidArgument(
                f"Tensor name: {alias} has inconsistent batch size: {array.shape[0]} "
                f"expecting: {size}"
            )
        size = array.shape[0]
    if size is None:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    return size


def _row_texts(alias: str, array: np.ndarray, depth: int) -> list[str]:
    """One text for each row of a batch, on one line."""
    texts = _element_texts(alias, array, depth + array.ndim - 1)
    for axis in range(array.ndim - 1, 0, -1):
        size = array.shape[axis]
        texts = [
            f"[{', '.join(texts[start * size : (start + 1) * size])}]"
            for start in range(math.prod(array.shape[:axis]))
        ]
    return texts


def _tensor_text(alias: str, array: np.ndarray, depth: int) -> str:
    """A whole tensor, one element a line."""
    texts = _element_texts(alias, array, depth + array.ndim)
    for axis in range(array.ndim - 1, -1, -1):
        size = array.shape[axis]
        texts = [
            _block("[", texts[start * size : (start + 1) * size], "]", depth + axis)
            for start in range(math.prod(array.shape[:axis]))
        ]
    return texts[0]


def _element_texts(alias: str, array: np.ndarray, depth: int) -> list[str]:
    """One text for each element; ``depth`` counts the brackets around an element."""
    flat = array.ravel()
    if not flat.size:
        return []
    dtype = dtype_of(array)
    if dtype in (DType.FLOAT, DType.DOUBLE):
        return decimal_texts(flat)
    if dtype in _INTEGERS:
        return str(flat.tolist())[1:-1].split(", ")
    if dtype is DType.BOOL:
        return ["true" if value else "false" for value in flat.tolist()]
    if dtype is not DType.STRING:
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {dtype.label}")
    if alias.endswith("_bytes"):
        return [_base64_object(value, depth) for value in flat.tolist()]
    return [_quoted(_text(value)) for value in flat.tolist()]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def _base64_object(value: bytes | str, depth: int) -> str:
    data = value.encode("utf-8") if isinstance(value, str) else value
    encoded = binascii.b2a_base64(data, newline=False).decode("ascii")
    return _object({"b64": f'"{encoded}"'}, depth)
