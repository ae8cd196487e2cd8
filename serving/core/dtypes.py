"""Element types of tensors: one enumeration, and what numpy calls each of them."""

from __future__ import annotations

import enum

import ml_dtypes
import numpy as np

from serving.core.errors import InvalidArgument


class DType(enum.IntEnum):
    """Element types; the numbers are those of tensorflow.DataType on the wire.

    INVALID is that of a tensor of a signature whose type nobody knows, and of no values.
    """

    INVALID = 0
    FLOAT = 1
    DOUBLE = 2
    INT32 = 3
    UINT8 = 4
    INT16 = 5
    INT8 = 6
    STRING = 7
    COMPLEX64 = 8
    INT64 = 9
    BOOL = 10
    QINT8 = 11
    QUINT8 = 12
    QINT32 = 13
    BFLOAT16 = 14
    QINT16 = 15
    QUINT16 = 16
    UINT16 = 17
    COMPLEX128 = 18
    HALF = 19
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22
    UINT64 = 23
    FLOAT8_E5M2 = 24
    FLOAT8_E4M3FN = 25

    @property
    def label(self) -> str:
        """The name that error texts use: ``float``, ``half``, ``string`` …"""
        return self.name.lower()


_NUMPY: dict[DType, np.dtype] = {
    DType.FLOAT: np.dtype(np.float32),
    DType.DOUBLE: np.dtype(np.float64),
    DType.INT32: np.dtype(np.int32),
    DType.UINT8: np.dtype(np.uint8),
    DType.INT16: np.dtype(np.int16),
    DType.INT8: np.dtype(np.int8),
    DType.STRING: np.dtype(np.object_),
    DType.COMPLEX64: np.dtype(np.complex64),
    DType.INT64: np.dtype(np.int64),
    DType.BOOL: np.dtype(np.bool_),
    DType.QINT8: np.dtype([("qint8", np.int8)]),
    DType.QUINT8: np.dtype([("quint8", np.uint8)]),
    DType.QINT32: np.dtype([("qint32", np.int32)]),
    DType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DType.QINT16: np.dtype([("qint16", np.int16)]),
    DType.QUINT16: np.dtype([("quint16", np.uint16)]),
    DType.UINT16: np.dtype(np.uint16),
    DType.COMPLEX128: np.dtype(np.complex128),
    DType.HALF: np.dtype(np.float16),
    DType.UINT32: np.dtype(np.uint32),
    DType.UINT64: np.dtype(np.uint64),
    DType.FLOAT8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.FLOAT8_E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
}
_FROM_NUMPY: dict[np.dtype, DType] = {numpy: dtype for dtype, numpy in _NUMPY.items()}


def numpy_dtype(dtype: DType) -> np.dtype:
    """The numpy type of the elements; strings are objects holding ``bytes``.

    Raises InvalidArgument for types that hold no data of their own (invalid, resource, variant).
    """
    try:
        return _NUMPY[dtype]
    except KeyError:
        raise InvalidArgument(f"tensors of type {dtype.label} have no elements") from None


def dtype_of(array: np.ndarray) -> DType:
    """The element type of an array; numpy's own string kinds count as STRING.

    Raises InvalidArgument when no tensor type matches the array's.
    """
    found = _FROM_NUMPY.get(array.dtype)
    if found is not None:
        return found
    if array.dtype.kind in "SU":
        return DType.STRING
    raise InvalidArgument(f"no tensor type for numpy type {array.dtype}")
