"""Layers that normalize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_operator import (
    Operation,
    Operator,
    axis_of,
    cast,
    integers,
    moved,
    scalar,
)
from serving.loaders.onnx_builder import GraphBuilder


def _batch_norm(op: Operation) -> str:
    data = op.inputs[0]
    gamma, beta, mean, variance = (
        cast(op.graph, each, op.graph.dtype(data)) for each in op.inputs[1:5]
    )
    if op.attributes.flag("fix_gamma", True):  # whatever it is in the file
        gamma = _ones(op.graph, op.inputs[1], op.graph.dtype(data))
    axis = op.attributes.integer("axis", 1)
    if axis != 1:
        axis = axis_of(op.graph, data, axis)
        data = moved(op.graph, data, axis, 1)
    normalized = op.graph.add(
        "BatchNormalization",
        data,
        gamma,
        beta,
        mean,
        variance,
        epsilon=op.attributes.number("eps", 1e-3),
    )
    return normalized if axis == 1 else moved(op.graph, normalized, 1, axis)


def _ones(graph: GraphBuilder, like: str, dtype: np.dtype) -> str:
    weight = graph.weight(like)
    if weight is None:
        raise InvalidArgument("its gamma has to be a parameter")
    return graph.constant(np.ones(weight.shape, dtype))


def _instance_norm(op: Operation) -> str:
    return op.graph.add(
        "InstanceNormalization", *op.inputs[:3], epsilon=op.attributes.number("eps", 1e-3)
    )


def _layer_norm(op: Operation) -> str:
    data, gamma, beta = op.inputs[0], op.inputs[1], op.inputs[2]
    axis = op.attributes.integer("axis", -1)
    if axis != -1:
        axis = axis_of(op.graph, data, axis)
        shape = [-1] + [1] * (op.graph.rank(data) - axis - 1)
        gamma, beta = (
            op.graph.add("Reshape", each, integers(op.graph, shape)) for each in (gamma, beta)
        )
    normalized = _standardized(op.graph, data, [axis], op.attributes.number("eps", 1e-5))
    return op.graph.add("Add", op.graph.add("Mul", normalized, gamma), beta)


def _group_norm(op: Operation) -> str:
    """Scaled by group, or by channel where there are as many values as channels."""
    graph, data = op.graph, op.inputs[0]
    groups = op.attributes.integer("num_groups", 1)
    result = graph.add("Reshape", data, integers(graph, [0, groups, -1]))
    result = _standardized(graph, result, [2], op.attributes.number("eps", 1e-5))
    by_group = graph.shape(op.inputs[1]) == (groups,)
    if not by_group:
        result = graph.reshaped_like(result, data)
    shape = integers(graph, [-1] + [1] * (1 if by_group else graph.rank(data) - 2))
    gamma, beta = (graph.add("Reshape", each, shape) for each in op.inputs[1:3])
    result = graph.add("Add", graph.add("Mul", result, gamma), beta)
    return graph.reshaped_like(result, data) if by_group else result


def _standardized(graph: GraphBuilder, data: str, axes: Sequence[int], epsilon: float) -> str:
    centred = graph.add("Sub", data, graph.add("ReduceMean", data, axes=axes, keepdims=1))
    squares = graph.add("Mul", centred, centred)
    variance = graph.add("ReduceMean", squares, axes=axes, keepdims=1)
    deviation = graph.add("Sqrt", graph.add("Add", variance, scalar(graph, data, epsilon)))
    return graph.add("Div", centred, deviation)


def _l2_normalization(op: Operation) -> str:
    data = op.inputs[0]
    mode = op.attributes.text("mode", "instance")
    rank = op.graph.rank(data)
    axes = {
        "instance": list(range(1, rank)),
        "channel": [1],
        "spatial": list(range(2, rank)),
    }.get(mode)
    if axes is None:
        raise InvalidArgument(f"its attribute mode can not be {mode!r}")
    squares = op.graph.add("ReduceSumSquare", data, axes=axes, keepdims=1)
    epsilon = scalar(op.graph, data, op.attributes.number("eps", 1e-10))
    return op.graph.add("Div", data, op.graph.add("Sqrt", op.graph.add("Add", squares, epsilon)))


def _lrn(op: Operation) -> str:
    return op.graph.add(
        "LRN",
        op.inputs[0],
        alpha=op.attributes.number("alpha", 1e-4),
        beta=op.attributes.number("beta", 0.75),
        bias=op.attributes.number("knorm", 2),
        size=op.attributes.required_integer("nsize"),
    )


NORMALIZATION: Mapping[str, Operator] = {
    "BatchNorm": _batch_norm,
    "BatchNorm_v1": _batch_norm,
    "CuDNNBatchNorm": _batch_norm,
    "GroupNorm": _group_norm,
    "InstanceNorm": _instance_norm,
    "L2Normalization": _l2_normalization,
    "LRN": _lrn,
    "LayerNorm": _layer_norm,
    "_contrib_SyncBatchNorm": _batch_norm,
}
