"""Requests held against a signature, for frameworks that do not judge their inputs themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.core.dtypes import dtype_of, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.servable import TensorInfo


def check_names(inputs: Mapping[str, TensorInfo], feeds: Mapping[str, np.ndarray]) -> None:
    """Raise InvalidArgument unless exactly these inputs, by the engine's names, are fed."""
    if feeds.keys() != inputs.keys():
        wanted, given = ", ".join(inputs), ", ".join(feeds)
        raise InvalidArgument(f"the model's inputs are {wanted}, not {given}")


def check_input(info: TensorInfo, array: np.ndarray) -> None:
    """Raise InvalidArgument, naming the input, for an array of another type or shape."""
    if wrong := mismatch(info, array):
        raise InvalidArgument(f"input '{info.name}' {wrong}")


def mismatch(info: TensorInfo, array: np.ndarray) -> str:
    """In what an array is not as it was declared, as "must be float, not double"; else empty."""
    if array.dtype != numpy_dtype(info.dtype):
        return f"must be {info.dtype.label}, not {dtype_of(array).label}"
    if info.shape is not None and not fits(array.shape, info.shape):
        return f"must have the shape {_shape_text(info.shape)}, not {_shape_text(array.shape)}"
    return ""


def fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether an array has so many dimensions, of these sizes; None is any size."""
    return len(shape) == len(wanted) and all(
        expected is None or size == expected for size, expected in zip(shape, wanted, strict=True)
    )


def as_text(name: str, array: np.ndarray) -> np.ndarray:
    """Strings as ``str``: ``bytes`` count as objects of any kind, and would go in as they print.

    Raises InvalidArgument, naming the input, for what is not UTF-8.
    """
    try:
        values = [value.decode() for value in array.flat]
    except UnicodeDecodeError:
        raise InvalidArgument(f"input '{name}' must be UTF-8") from None
    return np.array(values, np.object_).reshape(array.shape)


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Text as a Servable gives it: objects that are UTF-8. Other arrays, and what is ``bytes``
    already, are left as they are.
    """
    if array.dtype.kind not in "OU":
        return array
    values = [text if isinstance(text, bytes) else str(text).encode() for text in array.flat]
    return np.array(values, np.object_).reshape(array.shape)


def _shape_text(shape: Sequence[int | None]) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in shape)}]"
