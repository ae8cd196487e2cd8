"""The inputs and outputs of an ONNX model as a Signature, and requests held against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.core.dtypes import DType, dtype_of, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.servable import Signature, TensorInfo

_ELEMENT_TYPES = {
    "tensor(float)": DType.FLOAT,
    "tensor(double)": DType.DOUBLE,
    "tensor(float16)": DType.HALF,
    "tensor(int8)": DType.INT8,
    "tensor(int16)": DType.INT16,
    "tensor(int32)": DType.INT32,
    "tensor(int64)": DType.INT64,
    "tensor(uint8)": DType.UINT8,
    "tensor(uint16)": DType.UINT16,
    "tensor(uint32)": DType.UINT32,
    "tensor(uint64)": DType.UINT64,
    "tensor(bool)": DType.BOOL,
    "tensor(string)": DType.STRING,
}
"""onnxruntime's names of the types that it takes and gives as numpy arrays."""


def signature_of(session: Any) -> Signature:
    """What an InferenceSession takes and gives; aliases are the model's own names.

    Raises InvalidArgument naming the input or output that is no tensor of a supported type.
    """
    return Signature(
        inputs={node.name: _tensor_info("input", node) for node in session.get_inputs()},
        outputs={node.name: _tensor_info("output", node) for node in session.get_outputs()},
        method_name="tensorflow/serving/predict",
    )


def checked(info: TensorInfo, array: np.ndarray) -> np.ndarray:
    """An input as onnxruntime takes it: of the type and shape in ``info``, strings as ``str``.

    Raises InvalidArgument naming the input and what it should be.
    """
    if array.dtype != numpy_dtype(info.dtype):
        raise InvalidArgument(
            f"input '{info.name}' must be {info.dtype.label}, not {dtype_of(array).label}"
        )
    if info.shape is not None and not _fits(array.shape, info.shape):
        raise InvalidArgument(
            f"input '{info.name}' must have the shape {_shape_text(info.shape)}, "
            f"not {_shape_text(array.shape)}"
        )
    if info.dtype is DType.STRING:
        return _decoded(info.name, array)
    return array if array.flags.aligned else array.copy()


def encoded(array: np.ndarray) -> np.ndarray:
    """An output as a Servable gives it: strings as UTF-8."""
    if array.dtype != np.object_:
        return array
    values = [text.encode() for text in array.flat]
    return np.array(values, np.object_).reshape(array.shape)


def _tensor_info(role: str, node: Any) -> TensorInfo:
    """``node``: onnxruntime's NodeArg, whose shape is empty for a scalar and for any rank."""
    dtype = _ELEMENT_TYPES.get(node.type)
    if dtype is None:
        raise InvalidArgument(f"{role} '{node.name}' is {node.type}, which is not supported")
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape)
    return TensorInfo(node.name, dtype, shape or None)


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        expected is None or size == expected for size, expected in zip(shape, wanted, strict=True)
    )


def _shape_text(shape: Sequence[int | None]) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in shape)}]"


def _decoded(name: str, array: np.ndarray) -> np.ndarray:
    """As ``str``: ``bytes`` count as objects of any kind, and would go in as they print."""
    try:
        values = [value.decode() for value in array.flat]
    except UnicodeDecodeError:
        raise InvalidArgument(f"input '{name}' must be UTF-8") from None
    return np.array(values, np.object_).reshape(array.shape)
