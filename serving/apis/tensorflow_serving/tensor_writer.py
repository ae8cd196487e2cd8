"""The bytes of a TensorProto out of an array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.typed_fields import MEMORY_FIELDS, TYPED_FIELDS, tag_of
from serving.apis.tensorflow_serving.wire import varint
from serving.core.dtypes import DType, dtype_of

_FEW_NUMBERS = 64
_SMALL_BYTES = 4096
"""Up to here a copy costs less than looking at the memory of an array."""

_CONTENT_TAG = varint(tag_of("tensor_content"))
_TAGS = {field: varint(tag_of(field)) for field in TYPED_FIELDS.values()}


def is_memory(dtype: DType, *, as_content: bool) -> bool:
    """Whether the values travel as they lie in memory, so that the shape tells their size."""
    return dtype is not DType.STRING and (as_content or TYPED_FIELDS[dtype] in MEMORY_FIELDS)


def memory(array: np.ndarray) -> bytes | memoryview:
    """The values in row order, in a form that ``bytes.join`` takes; a large array's own memory."""
    if array.nbytes <= _SMALL_BYTES:
        return array.tobytes()
    return array.ravel().view(np.uint8).data


def tensor_head(
    dtype: DType, shape: Iterable[int], values_size: int, *, as_content: bool = False
) -> bytes:
    """What stands before so many bytes of values: element type, shape, the field and its length."""
    dims = b"".join(_delimited(b"\x12", b"\x08" + varint(size) if size else b"") for size in shape)
    head = b"\x08" + varint(dtype) + _delimited(b"\x12", dims)
    if not values_size:
        return head
    in_content = as_content and dtype is not DType.STRING
    tag = _CONTENT_TAG if in_content else _TAGS[TYPED_FIELDS[dtype]]
    return head + tag + varint(values_size)


def write_tensor(array: np.ndarray, *, as_content: bool = False) -> bytes:
    """A serialized TensorProto with the values in the typed field of the array's element type,
    or in ``tensor_content``; strings are in ``string_val`` either way.

    Raises InvalidArgument for an array of a type that tensors do not have.
    """
    dtype = dtype_of(array)
    if dtype is DType.STRING:
        strings = [_as_bytes(value) for value in array.ravel().tolist()]
        return tensor_head(dtype, array.shape, 0) + _field(dtype, strings)
    if is_memory(dtype, as_content=as_content):
        values = memory(array)
    else:
        numbers = _as_integers(array)
        if not _are_bytes(numbers):
            return tensor_head(dtype, array.shape, 0) + _field(dtype, numbers.tolist())
        values = numbers.astype(np.uint8).data
    return b"".join((tensor_head(dtype, array.shape, len(values), as_content=as_content), values))


def _field(dtype: DType, values: list[Any]) -> bytes:
    fields: dict[str, Any] = {TYPED_FIELDS[dtype]: values}
    message = protos.TensorProto(**fields)
    return message.SerializeToString()


def _as_integers(array: np.ndarray) -> np.ndarray:
    """The integers that travel as varints, in one dimension; of 16-bit floats, their bits."""
    numbers = array.ravel()
    if numbers.dtype.names:
        return numbers.view(numbers.dtype[0])
    if numbers.dtype.kind in "iu":
        return numbers
    return numbers.view(np.uint16)


def _are_bytes(numbers: np.ndarray) -> bool:
    """Whether each number is one byte as a varint; not worth a look where they are few."""
    if len(numbers) <= _FEW_NUMBERS:
        return False
    return bool(numbers.max() < 0x80 and numbers.min() >= 0)


def _delimited(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def _as_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
