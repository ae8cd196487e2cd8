"""The inputs and outputs of an ONNX model as a Signature, and requests held against it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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


def signature_of(session: Any, scalars: Collection[str]) -> Signature:
    """What an InferenceSession takes and gives; aliases are the model's own names.

    ``scalars`` are those of them without dimensions, which onnxruntime does not tell from those of
    any rank. Raises InvalidArgument naming the input or output that is no tensor of a supported
    type.
    """
    return Signature(
        inputs=_tensor_infos("input", session.get_inputs(), scalars),
        outputs=_tensor_infos("output", session.get_outputs(), scalars),
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


def _tensor_infos(
    role: str, nodes: Iterable[Any], scalars: Collection[str]
) -> dict[str, TensorInfo]:
    """``nodes``: onnxruntime's NodeArgs, whose shape is empty for a scalar and for any rank."""
    infos = {}
    for node in nodes:
        dtype = _ELEMENT_TYPES.get(node.type)
        if dtype is None:
            raise InvalidArgument(f"{role} '{node.name}' is {node.type}, which is not supported")
        sizes = (size if isinstance(size, int) and size >= 0 else None for size in node.shape)
        shape = tuple(sizes) or (() if node.name in scalars else None)
        infos[node.name] = TensorInfo(node.name, dtype, shape)
    return infos
