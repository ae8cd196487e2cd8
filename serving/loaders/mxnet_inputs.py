"""What the inputs of an MXNet model are, which its files say little about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.core.dtypes import DType, dtype_of
from serving.core.errors import InvalidArgument
from serving.core.servable import TensorInfo
from serving.loaders.mxnet_attributes import Attributes
from serving.loaders.mxnet_signature import Declared
from serving.loaders.mxnet_symbol import Node, Output, Symbol

_KEEP_SHAPE_AND_TYPE = frozenset(
    {"Activation", "BatchNorm", "BlockGrad", "Dropout", "LRN", "LeakyReLU", "_copy", "identity"}
)
_DTYPES = (DType.FLOAT, DType.DOUBLE, DType.HALF, DType.UINT8, DType.INT32, DType.INT8, DType.INT64)
"""By MXNet's numbers for them."""


def input_of(
    symbol: Symbol, number: int, params: Mapping[str, np.ndarray], declared: Declared | None
) -> TensorInfo:
    """The input that a variable of the symbol is: as it is declared, else as the variable's own
    attributes say, else as the first layer needs it whose weights it meets. What nothing tells is
    a float of any shape, as MXNet has it.
    """
    variable = symbol.nodes[number]
    told_dtype, told_shape = _of_variable(variable)
    met_dtype, met_shape = _of_layer(symbol, number, params)
    dtype = (declared.dtype if declared else None) or told_dtype or met_dtype or DType.FLOAT
    shape = (declared.shape if declared else None) or told_shape or met_shape
    return TensorInfo(variable.name, dtype, shape)


def _of_variable(variable: Node) -> tuple[DType | None, tuple[int | None, ...] | None]:
    attributes = Attributes(variable.attributes)
    dtype = attributes.integer("__dtype__", -1)
    if dtype >= len(_DTYPES):
        raise InvalidArgument(f"'{variable.name}' is of the type {dtype}, which is not served")
    sizes = attributes.integers("__shape__")
    shape = (None, *(size if size > 0 else None for size in sizes[1:])) if sizes else None
    return _DTYPES[dtype] if dtype >= 0 else None, shape


def _of_layer(
    symbol: Symbol, number: int, params: Mapping[str, np.ndarray]
) -> tuple[DType | None, tuple[int | None, ...] | None]:
    """A layer with weights decides both; what keeps shapes and types is looked through."""
    source = Output(number, 0)
    for place, node in enumerate(symbol.nodes[number + 1 :], number + 1):
        if not node.inputs or node.inputs[0] != source:
            continue
        if node.operator in _KEEP_SHAPE_AND_TYPE:
            source = Output(place, 0)
            continue
        weight = _weight(symbol, node, params)
        if weight is None:
            return None, None
        shape = _shape_for(node, weight.shape)
        return (dtype_of(weight), shape) if shape else (None, None)
    return None, None


def _weight(symbol: Symbol, node: Node, params: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if len(node.inputs) < 2:
        return None
    return params.get(symbol.nodes[node.inputs[1].node].name)


def _shape_for(node: Node, weight: Sequence[int]) -> tuple[int | None, ...] | None:
    """The data that the layer takes by its weights: a batch, with as many channels or features."""
    attributes = Attributes(node.attributes)
    if node.operator == "FullyConnected" and len(weight) == 2:
        return (None, weight[1]) if attributes.flag("flatten", True) else None
    if node.operator not in ("Convolution", "Convolution_v1", "Deconvolution"):
        return None
    if not attributes.text("layout", "NC").startswith("NC"):
        return (None, *[None] * (len(weight) - 2), weight[-1])
    channels = weight[0]
    if node.operator != "Deconvolution":
        channels = weight[1] * attributes.integer("num_group", 1)
    return (None, channels, *[None] * (len(weight) - 2))
