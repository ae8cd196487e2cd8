"""TensorProto to numpy and back, with the rules of TensorFlow's own C++ reader and writer.

Those differ from ``tf.make_ndarray`` and ``tf.make_tensor_proto``: too few values are completed
with the last one, surplus values are ignored, no values at all mean zeros, and answers are written
in the typed fields (``float_val``, ``int_val`` …), which is where clients look for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.tensor_writer import write_tensor
from serving.apis.tensorflow_serving.typed_fields import TYPED_FIELDS
from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import InvalidArgument

_LARGEST_FILL_BYTES = 256 << 20
"""A few bytes may declare a tensor of any size; beyond this, its values have to be sent."""

_FEW_VALUES = 32
"""Up to here a list of Python numbers is faster than the array interface of a repeated field."""

_FIELD_ELEMENTS: Mapping[str, type[np.generic]] = {
    "float_val": np.float32,
    "double_val": np.float64,
    "int_val": np.int32,
    "scomplex_val": np.float32,
    "int64_val": np.int64,
    "bool_val": np.bool_,
    "dcomplex_val": np.float64,
    "half_val": np.int32,
    "uint32_val": np.uint32,
    "uint64_val": np.uint64,
}
"""What numpy calls the elements of the numeric fields."""


def decode_tensor(proto: protos.TensorProto) -> np.ndarray:
    """The array that a TensorProto holds, read-only where it shares the proto's bytes.

    Raises InvalidArgument when the type or shape is not one that can hold values, when
    ``tensor_content`` has not exactly the bytes that the shape needs, or when a shape of more than
    256 MiB is not backed by values.
    """
    dtype = _element_type(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if min(shape, default=0) < 0:
        raise InvalidArgument(f"the shape {shape} has a negative dimension")
    count = math.prod(shape)
    if count == 0:
        values = np.empty(0, numpy_dtype(dtype))
    elif content := proto.tensor_content:
        values = _from_content(dtype, content, count)
    else:
        values = _completed(_from_typed_field(dtype, proto), dtype, count)
    try:
        return values.reshape(shape)
    except ValueError as error:
        raise InvalidArgument(f"the shape {shape} cannot be represented: {error}") from error


def encode_tensor(
    array: np.ndarray, proto: protos.TensorProto, *, as_content: bool = False
) -> None:
    """Write an array into an empty TensorProto: typed fields, or ``tensor_content`` if asked for.

    Strings are in ``string_val`` either way. Raises InvalidArgument for an array of a type that
    tensors do not have.
    """
    proto.MergeFromString(write_tensor(array, as_content=as_content))


class TensorMap(Mapping[str, np.ndarray]):
    """TensorProtos by alias, decoded when looked up.

    Looking up a proto that cannot be decoded raises InvalidArgument with its alias.
    """

    def __init__(self, tensors: Mapping[str, protos.TensorProto]) -> None:
        self._protos = tensors

    def __getitem__(self, alias: str) -> np.ndarray:
        if alias not in self._protos:  # a map of messages would make one
            raise KeyError(alias)
        try:
            return decode_tensor(self._protos[alias])
        except InvalidArgument as error:
            raise InvalidArgument(f"tensor parsing error: {alias}") from error

    def __contains__(self, alias: object) -> bool:
        return alias in self._protos

    def __iter__(self) -> Iterator[str]:
        return iter(self._protos)

    def __len__(self) -> int:
        return len(self._protos)


def _element_type(number: int) -> DType:
    try:
        dtype = DType(number)
    except ValueError:
        raise InvalidArgument(f"no tensor type has the number {number}") from None
    if dtype not in TYPED_FIELDS:
        raise InvalidArgument(f"tensors of type {dtype.label} hold no values")
    return dtype


def _from_content(dtype: DType, content: bytes, count: int) -> np.ndarray:
    if dtype is DType.STRING:
        return _split_strings(content, count)
    elements = numpy_dtype(dtype)
    if len(content) != count * elements.itemsize:
        raise InvalidArgument(
            f"tensor_content has {len(content)} bytes, {count * elements.itemsize} are needed"
        )
    if dtype is DType.BOOL and max(content) > 1:
        raise InvalidArgument("tensor_content of type bool has a byte other than 0 and 1")
    return np.frombuffer(content, elements)


def _split_strings(content: bytes, count: int) -> np.ndarray:
    """Strings from ``tensor_content``: the length of each as a varint, then the bytes of each."""
    if count > len(content):
        raise InvalidArgument(f"tensor_content has too few bytes for {count} strings")
    lengths, position = [], 0
    for _ in range(count):
        length, position = _read_varint(content, position)
        lengths.append(length)
    if len(content) - position != sum(lengths):
        raise InvalidArgument("tensor_content does not have the length of its strings")
    values = np.empty(count, np.object_)
    for index, length in enumerate(lengths):
        values[index] = content[position : position + length]
        position += length
    return values


def _from_typed_field(dtype: DType, proto: protos.TensorProto) -> np.ndarray:
    """Every value of the field that holds elements of this type, in one dimension."""
    name = TYPED_FIELDS[dtype]
    field = getattr(proto, name)
    elements = numpy_dtype(dtype)
    if dtype is DType.STRING:
        values = np.empty(len(field), np.object_)
        values[:] = field
        return values
    if name == "float8_val":
        return np.frombuffer(field, elements)
    numbers = np.array(field[:] if len(field) <= _FEW_VALUES else field, _FIELD_ELEMENTS[name])
    if elements.kind == "c":
        return numbers[: len(numbers) // 2 * 2].view(elements)
    if name == "half_val":
        return numbers.astype(np.uint16).view(elements)
    if elements.names:
        return numbers.astype(elements[0]).view(elements)
    return numbers.astype(elements, copy=False)


def _completed(values: np.ndarray, dtype: DType, count: int) -> np.ndarray:
    """Exactly ``count`` values: surplus ones cut off, missing ones like the last one, or zero."""
    if len(values) >= count:
        return values[:count]
    if count * values.itemsize > _LARGEST_FILL_BYTES:
        raise InvalidArgument(f"{len(values)} values were sent for a tensor of {count}")
    filled = np.empty(count, values.dtype)
    filled[: len(values)] = values
    if len(values):
        filled[len(values) :] = values[-1]
    else:
        filled[:] = b"" if dtype is DType.STRING else np.zeros((), values.dtype)
    return filled


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of at most 32 bits and the position behind it."""
    number = 0
    for shift in range(0, 35, 7):
        if position >= len(content):
            break
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise InvalidArgument("tensor_content has a string length that cannot be read")
