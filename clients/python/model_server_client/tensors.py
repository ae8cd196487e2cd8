"""numpy's arrays as TensorProto messages, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from model_server_client.generated.tensorflow_framework_pb2 import DataType, TensorProto

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_NAMES = {
    "bool": DataType.DT_BOOL,
    "int8": DataType.DT_INT8,
    "int16": DataType.DT_INT16,
    "int32": DataType.DT_INT32,
    "int64": DataType.DT_INT64,
    "uint8": DataType.DT_UINT8,
    "uint16": DataType.DT_UINT16,
    "uint32": DataType.DT_UINT32,
    "uint64": DataType.DT_UINT64,
    "float16": DataType.DT_HALF,
    "float32": DataType.DT_FLOAT,
    "float64": DataType.DT_DOUBLE,
    "complex64": DataType.DT_COMPLEX64,
    "complex128": DataType.DT_COMPLEX128,
    "bfloat16": DataType.DT_BFLOAT16,
}
_DTYPES: dict[int, str] = {data_type: name for name, data_type in _NAMES.items()}

_FIELDS = {
    DataType.DT_BOOL: "bool_val",
    DataType.DT_INT8: "int_val",
    DataType.DT_INT16: "int_val",
    DataType.DT_INT32: "int_val",
    DataType.DT_INT64: "int64_val",
    DataType.DT_UINT8: "int_val",
    DataType.DT_UINT16: "int_val",
    DataType.DT_UINT32: "uint32_val",
    DataType.DT_UINT64: "uint64_val",
    DataType.DT_HALF: "half_val",
    DataType.DT_BFLOAT16: "half_val",
    DataType.DT_FLOAT: "float_val",
    DataType.DT_DOUBLE: "double_val",
    DataType.DT_COMPLEX64: "scomplex_val",
    DataType.DT_COMPLEX128: "dcomplex_val",
    DataType.DT_STRING: "string_val",
}
"""The field of TensorProto that has the elements of a type one by one."""


def array_from(value: ArrayLike) -> np.ndarray:
    """``value`` as an array; strings are objects, so that they keep the zeros at their ends."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
    except UnicodeDecodeError:  # str and bytes side by side
        return np.asarray(value, object)
    return np.asarray(value, object) if array.dtype.kind in "SU" else array


def tensor_proto(name: str, value: ArrayLike) -> TensorProto:
    """``value`` as a message; ``name`` is for errors only.

    Strings and bytes of any kind become DT_STRING. Raises TypeError for elements that have no
    type in TensorFlow.
    """
    array = array_from(value)
    message = TensorProto()
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "SUO":
        message.dtype = DataType.DT_STRING
        message.string_val.extend(_as_bytes(name, item) for item in array.reshape(-1).tolist())
        return message
    data_type = _NAMES.get(array.dtype.name)
    if data_type is None:
        raise TypeError(f"input {name!r} has elements of {array.dtype}, which no tensor has")
    message.dtype = data_type
    message.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return message


def array_of(message: TensorProto) -> np.ndarray:
    """The array in ``message``: one that cannot be written to where it is the message's memory.

    Strings are an array of objects, which are bytes. Raises ValueError for types that numpy has
    not, and for a message that contradicts itself.
    """
    if message.tensor_shape.unknown_rank:
        raise ValueError("a tensor has no shape")
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    dtype = dtype_of(message.dtype)
    if dtype is None:
        raise ValueError(f"numpy has no type for elements of {DataType.Name(message.dtype)}")
    if message.tensor_content:
        return np.frombuffer(message.tensor_content, dtype).reshape(shape)
    count = math.prod(shape)
    values = _typed_values(message, dtype)
    if len(values) != count:
        values = _filled(values, count)
    return values.reshape(shape)


def dtype_of(data_type: int) -> np.dtype | None:
    """Numpy's type for one of TensorFlow's; None where it has none.

    It has bfloat16 only where the package ml_dtypes has been imported.
    """
    if data_type == DataType.DT_STRING:
        return np.dtype(object)
    try:
        return np.dtype(_DTYPES[data_type])
    except (KeyError, TypeError):
        return None


def _as_bytes(name: str, item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise TypeError(f"input {name!r} has an element of {type(item).__name__}, which no tensor has")


def _typed_values(message: TensorProto, dtype: np.dtype) -> np.ndarray:
    values = getattr(message, _FIELDS[message.dtype])
    if message.dtype in {DataType.DT_HALF, DataType.DT_BFLOAT16}:
        return np.array(values, np.uint16).view(dtype)
    if message.dtype in {DataType.DT_COMPLEX64, DataType.DT_COMPLEX128}:
        return np.array(values, dtype.type(0).real.dtype).view(dtype)
    return np.array(values, dtype)


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    """``count`` values: the last one stands for all that follow it, and none for zeros."""
    if len(values) > count:
        raise ValueError(f"a tensor of {count} elements has {len(values)}")
    nothing = b"" if values.dtype == object else 0
    filled = np.full(count, values[-1] if len(values) else nothing, values.dtype)
    filled[: len(values)] = values
    return filled
