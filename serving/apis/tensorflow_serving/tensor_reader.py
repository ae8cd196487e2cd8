"""Arrays out of the bytes of a TensorProto, where those are laid out as clients write them.

That layout is: element type, shape, then one field with exactly the values that the shape needs.
Everything else raises ValueError here and is left to protobuf and ``tensor_codec``, whose result
is the same where this one has any.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from serving.apis.tensorflow_serving.typed_fields import MEMORY_FIELDS, TYPED_FIELDS, tag_of
from serving.apis.tensorflow_serving.wire import read_span, read_varint, read_varints
from serving.core.dtypes import DType, numpy_dtype

_MOST_DIMENSIONS = 32
_MOST_STRINGS = 64
"""Beyond, the message classes are faster."""

_DTYPE_TAG = 0x08
_SHAPE_TAG = 0x12
_DIM_TAG = 0x12
_SIZE_TAG = 0x08
_STRING_TAG = tag_of("string_val")


class TensorLayout(NamedTuple):
    """Where in a message the values of a tensor are: ``start`` to ``stop``, and how to read them.

    ``sized``: the values are announced once, with their size in bytes, so that other values of
    that size are read the same way.
    """

    read: Callable[[bytes, TensorLayout], np.ndarray]
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    sized: bool = True


def scan_tensor(data: bytes, start: int, end: int) -> TensorLayout:
    """The layout of the TensorProto that fills ``data[start:end]``.

    Raises ValueError or IndexError for any other layout than the usual one.
    """
    if data[start] != _DTYPE_TAG:
        raise ValueError("the element type does not come first")
    dtype = data[start + 1]
    shape: tuple[int, ...] = ()
    position = start + 2
    if data[position] == _SHAPE_TAG:
        first, position = read_span(data, position + 1, end)
        shape = _read_shape(data, first, position)
    if position >= end:
        raise ValueError("no values")
    tag, after_tag = read_varint(data, position)
    reading = _READERS.get((dtype, tag))
    if reading is None:
        raise ValueError("no values of this type in this field")
    read, elements = reading
    if tag == _STRING_TAG:
        return TensorLayout(read, elements, shape, position, end, sized=False)
    first, stop = read_span(data, after_tag, end)
    if stop != end:
        raise ValueError("something follows the values")
    count = math.prod(shape)
    if not 0 < count <= stop - first:
        raise ValueError("no values, or too few bytes for them")
    if read is not _read_varints and stop - first != count * elements.itemsize:
        raise ValueError("not as many bytes as the shape needs")
    return TensorLayout(read, elements, shape, first, stop)


def _read_shape(data: bytes, start: int, end: int) -> tuple[int, ...]:
    sizes: list[int] = []
    position = start
    while position < end:
        if data[position] != _DIM_TAG or len(sizes) == _MOST_DIMENSIONS:
            raise ValueError("not a list of dimensions")
        first, position = read_span(data, position + 1, end)
        size = 0
        if first < position:
            size, stop = read_varint(data, first + 1)
            if data[first] != _SIZE_TAG or stop != position:
                raise ValueError("a dimension has more than its size")
        sizes.append(size)
    return tuple(sizes)


def _read_view(data: bytes, layout: TensorLayout) -> np.ndarray:
    return np.ndarray(layout.shape, layout.dtype, data, layout.start)


def _read_bools(data: bytes, layout: TensorLayout) -> np.ndarray:
    octets: np.ndarray = np.ndarray(layout.shape, np.uint8, data, layout.start)
    if octets.max() > 1:
        raise ValueError("a byte is neither 0 nor 1")
    return octets.view(np.bool_)


def _read_varints(data: bytes, layout: TensorLayout) -> np.ndarray:
    """Integers, and floating-point numbers of 16 bits that travel as the integers of their bits."""
    numbers = read_varints(data, layout.start, layout.stop, math.prod(layout.shape))
    elements = layout.dtype
    if elements.kind not in "iu":
        numbers = numbers.astype(f"u{elements.itemsize}").view(elements)
    return numbers.astype(elements, copy=False).reshape(layout.shape)


def _read_strings(data: bytes, layout: TensorLayout) -> np.ndarray:
    strings: list[bytes] = []
    position = layout.start
    while position < layout.stop:
        if data[position] != _STRING_TAG or len(strings) == _MOST_STRINGS:
            raise ValueError("not a short list of strings")
        start, position = read_span(data, position + 1, layout.stop)
        strings.append(data[start:position])
    if len(strings) != math.prod(layout.shape):
        raise ValueError("not as many strings as the shape needs")
    array = np.empty(len(strings), np.object_)
    array[:] = strings
    return array.reshape(layout.shape)


def _readers() -> dict[tuple[int, int], tuple[Callable[..., np.ndarray], np.dtype]]:
    """How to read each element type from each field that may hold it: by type and tag."""
    readers: dict[tuple[int, int], tuple[Callable[..., np.ndarray], np.dtype]] = {}
    for dtype, field in TYPED_FIELDS.items():
        elements = numpy_dtype(dtype)
        if dtype is DType.STRING:
            readers[dtype, _STRING_TAG] = _read_strings, elements
            continue
        as_memory = _read_bools if dtype is DType.BOOL else _read_view
        typed = as_memory if field in MEMORY_FIELDS else _read_varints
        readers[dtype, tag_of(field)] = typed, elements
        readers[dtype, tag_of("tensor_content")] = as_memory, elements
    return readers


_READERS = _readers() if sys.byteorder == "little" else {}
