"""The inputs and outputs of an ONNX model as a Signature, and requests held against it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import Signature, TensorInfo
from serving.loaders.input_check import as_bytes, as_text, check_input

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

_SCORES_BY_CLASS = {"seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))"}
"""What the converters of classifiers make of probabilities: for each row, a map from classes."""


def signature_of(session: Any, scalars: Collection[str]) -> Signature:
    """What an InferenceSession takes and gives; aliases are the model's own names.

    ``scalars`` are those of them without dimensions, which onnxruntime does not tell from those of
    any rank. Scores by classes are a matrix, as :func:`as_array` has them. Raises InvalidArgument
    naming the input or output that is nothing else, and no tensor of a supported
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


def as_array(output: Any) -> np.ndarray:
    """An output as a Servable gives it; scores by classes as floats, (rows, classes), in the
    order that the numbers or texts have which the classes are.
    """
    return _matrix(output) if isinstance(output, list) else as_bytes(output)


def _matrix(rows: Sequence[dict[int, float] | dict[str, float]]) -> np.ndarray:
    return np.array([[score for _, score in sorted(row.items())] for row in rows], np.float32)


def _tensor_infos(
    role: str, nodes: Iterable[Any], scalars: Collection[str]
) -> dict[str, TensorInfo]:
    """``nodes``: onnxruntime's NodeArgs, whose shape is empty for a scalar and for any rank."""
    infos = {}
    for node in nodes:
        if role == "output" and node.type in _SCORES_BY_CLASS:
            infos[node.name] = TensorInfo(node.name, DType.FLOAT, (None, None))
            continue
        dtype = _ELEMENT_TYPES.get(node.type)
        if dtype is None:
            raise InvalidArgument(f"{role} '{node.name}' is {node.type}, which is not supported")
        sizes = (size if isinstance(size, int) and size >= 0 else None for size in node.shape)
        shape = tuple(sizes) or (() if node.name in scalars else None)
        infos[node.name] = TensorInfo(node.name, dtype, shape)
    return infos
