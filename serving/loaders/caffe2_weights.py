"""The weights of a Caffe2 network: the operators that fill a blob, as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.generated.caffe2_net_pb2 import Argument
from serving.loaders.caffe2_arguments import Arguments

DATA_TYPES: Mapping[int, np.dtype] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.int32),
    3: np.dtype(np.uint8),
    5: np.dtype(np.bool_),
    6: np.dtype(np.uint8),
    7: np.dtype(np.int8),
    8: np.dtype(np.uint16),
    9: np.dtype(np.int16),
    10: np.dtype(np.int64),
    12: np.dtype(np.float16),
    13: np.dtype(np.float64),
}
"""Caffe2's numbers of element types: TensorProto.DataType."""

_MOST_BYTES = 2**31  # what no ONNX model can hold is not made at all
_MOST_DIMENSIONS = 32

_RANDOM = frozenset(
    {
        "GaussianFill",
        "MSRAFill",
        "UniformFill",
        "UniformIntFill",
        "UniqueUniformFill",
        "XavierFill",
    }
)


def filled(operator_type: str, arguments: Arguments) -> np.ndarray | None:
    """What the operator fills its output with; None for one that does something else.

    Raises FailedPrecondition for random values, which were never trained, InvalidArgument for
    arguments that do not go together.
    """
    if operator_type in _RANDOM:
        raise FailedPrecondition(
            "it fills weights with random values; save the net that has the trained ones"
        )
    if operator_type == "ConstantFill":
        return _constant(arguments)
    if operator_type not in _GIVEN:
        return None
    dtype, values_of = _GIVEN[operator_type]
    values = values_of(arguments.of("values"))
    shape = _shape(arguments, dtype)
    if math.prod(shape) != len(values):
        raise InvalidArgument(f"it has {len(values)} values for the shape {list(shape)}")
    return np.fromiter(values, dtype, len(values)).reshape(shape)


def _bytes_of(values: Argument) -> bytes:
    return values.strings[0] if values.strings else b""


_GIVEN: Mapping[str, tuple[np.dtype, Callable[[Argument], Collection[float]]]] = {
    "GivenTensorFill": (np.dtype(np.float32), lambda values: values.floats),
    "GivenTensorDoubleFill": (np.dtype(np.float64), lambda values: values.floats),
    "GivenTensorIntFill": (np.dtype(np.int32), lambda values: values.ints),
    "GivenTensorInt64Fill": (np.dtype(np.int64), lambda values: values.ints),
    "GivenTensorBoolFill": (np.dtype(np.bool_), lambda values: values.ints),
    "GivenTensorByteStringToUInt8Fill": (np.dtype(np.uint8), _bytes_of),
}


def _constant(arguments: Arguments) -> np.ndarray:
    number = arguments.integer("dtype", 1)
    if number not in DATA_TYPES:
        raise InvalidArgument(f"there is no element type {number}")
    dtype = DATA_TYPES[number]
    if "value" in arguments and dtype.kind != "f":
        value: float = arguments.integer("value", 0)
    else:
        value = arguments.number("value", 0.0)
    shape = _shape(arguments, dtype)
    try:
        return np.full(shape, value, dtype)
    except OverflowError as error:
        raise InvalidArgument(f"{value} is no {dtype.name}") from error


def _shape(arguments: Arguments, dtype: np.dtype) -> tuple[int, ...]:
    shape = tuple(arguments.integers("shape"))
    if len(shape) > _MOST_DIMENSIONS:
        raise InvalidArgument(f"a weight can not have {len(shape)} dimensions")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize > _MOST_BYTES:
        raise InvalidArgument(f"a weight can not have the shape {list(shape)}")
    return shape
