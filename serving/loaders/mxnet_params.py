"""Arrays out of the ``.params`` files of MXNet 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.little_endian import LittleEndianReader
from serving.loaders.model_file import read_model

_LIST = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0
_MOST_DIMENSIONS = 32  # what numpy always had; MXNet's operators take six at most
_SMALLEST_ARRAY = 8  # bytes: its magic number and an empty shape

_DTYPES: Mapping[int, np.dtype] = {
    number: np.dtype(name).newbyteorder("<")
    for number, name in enumerate(
        ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2", "u2", "u4", "u8")
    )
}
"""MXNet's numbers of element types; 12, bfloat16, is not served."""


def read_params(file: Path) -> Mapping[str, np.ndarray]:
    """The arrays of a file that MXNet wrote, by name, without ``arg:`` and ``aux:`` before it.

    The arrays are read-only views of the file's content, so that no number in it says how much
    memory is taken. Raises InvalidArgument for a file that can not be read, is cut short or is
    something else, and for arrays that are sparse or of a type that is not known.
    """
    try:
        return _named_arrays(LittleEndianReader(read_model(file)))
    except InvalidArgument as error:
        text = f"{file.name} is no file of MXNet's parameters: {error.message}"
        raise InvalidArgument(text) from error


def _named_arrays(reader: LittleEndianReader) -> Mapping[str, np.ndarray]:
    if reader.left < 8 or reader.number("Q") != _LIST:
        raise InvalidArgument("it begins otherwise")
    reader.take(8)  # reserved
    arrays = [_array(reader) for _ in range(reader.count(_SMALLEST_ARRAY))]
    names = [_name(reader) for _ in range(reader.count(8))]
    if len(names) != len(arrays):
        raise InvalidArgument(f"it has {len(arrays)} arrays, but {len(names)} names")
    if len(set(names)) != len(names):
        raise InvalidArgument("several arrays have the same name")
    return {name: array for name, array in zip(names, arrays, strict=True) if array is not None}


def _name(reader: LittleEndianReader) -> str:
    return reader.text().removeprefix("arg:").removeprefix("aux:")


def _array(reader: LittleEndianReader) -> np.ndarray | None:
    """None for an array that was saved before it had a value."""
    shape = _shape(reader)
    if shape is None:
        return None
    reader.take(8)  # the device that it was on
    flag = reader.number("i")
    if flag not in _DTYPES:
        raise InvalidArgument(f"an array has elements of the type {flag}, which is not served")
    dtype = _DTYPES[flag]
    return reader.array(dtype, math.prod(shape)).reshape(shape)


def _shape(reader: LittleEndianReader) -> tuple[int, ...] | None:
    """As of an array's beginning, which is of one of four forms; None where there is no array."""
    magic = reader.number("I")
    if magic in (_V2, _V3) and reader.number("i") != _DENSE:
        raise InvalidArgument("an array is sparse; save the model with dense ones")
    if magic not in (_V1, _V2, _V3):  # the oldest form has none
        dimensions, form = magic, "I"
    else:
        dimensions, form = reader.number("i"), "q"
    if dimensions == (-1 if magic == _V3 else 0):
        return None
    if not 0 <= dimensions <= _MOST_DIMENSIONS:
        raise InvalidArgument(f"an array has {dimensions} dimensions")
    shape = reader.numbers(form, dimensions)
    if any(size < 0 for size in shape):
        raise InvalidArgument(f"an array has the shape {list(shape)}")
    return shape
