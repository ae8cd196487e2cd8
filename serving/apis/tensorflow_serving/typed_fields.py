"""Where a TensorProto holds its values: the field for each element type, and its tag."""

from __future__ import annotations

from collections.abc import Mapping

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.core.dtypes import DType

TYPED_FIELDS: Mapping[DType, str] = {
    DType.FLOAT: "float_val",
    DType.DOUBLE: "double_val",
    DType.INT32: "int_val",
    DType.UINT8: "int_val",
    DType.INT16: "int_val",
    DType.INT8: "int_val",
    DType.STRING: "string_val",
    DType.COMPLEX64: "scomplex_val",
    DType.INT64: "int64_val",
    DType.BOOL: "bool_val",
    DType.QINT8: "int_val",
    DType.QUINT8: "int_val",
    DType.QINT32: "int_val",
    DType.BFLOAT16: "half_val",
    DType.QINT16: "int_val",
    DType.QUINT16: "int_val",
    DType.UINT16: "int_val",
    DType.COMPLEX128: "dcomplex_val",
    DType.HALF: "half_val",
    DType.UINT32: "uint32_val",
    DType.UINT64: "uint64_val",
    DType.FLOAT8_E5M2: "float8_val",
    DType.FLOAT8_E4M3FN: "float8_val",
}

MEMORY_FIELDS = frozenset(
    {"float_val", "double_val", "scomplex_val", "dcomplex_val", "float8_val", "bool_val"}
)
"""The fields whose packed encoding is the memory of a little-endian array; a bool's, where every
varint is one byte."""

_LENGTH_DELIMITED = 2


def tag_of(field: str) -> int:
    """The tag of a field's bytes or packed values."""
    number: int = protos.TensorProto.DESCRIPTOR.fields_by_name[field].number
    return number << 3 | _LENGTH_DELIMITED
