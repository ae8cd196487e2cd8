"""The inputs and outputs of an ONNX model as a Signature, and requests held against it."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import Signature, TensorInfo
from serving.loaders.input_check import as_text, check_input

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
    check_input(info, array)
    if info.dtype is DType.STRING:
        return as_text(info.name, array)
    return array if array.flags.aligned else array.copy()


def _tensor_info(role: str, node: Any) -> TensorInfo:
    """``node``: onnxruntime's NodeArg, whose shape is empty for a scalar and for any rank."""
    dtype = _ELEMENT_TYPES.get(node.type)
    if dtype is None:
        raise InvalidArgument(f"{role} '{node.name}' is {node.type}, which is not supported")
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape)
    return TensorInfo(node.name, dtype, shape or None)
