"""Operators that make many elements one, and products of matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_attributes import Attributes
from serving.loaders.mxnet_operator import Operation, Operator, axis_of, cast, integers, scalar
from serving.loaders.onnx_builder import GraphBuilder


def _reduction(op_type: str) -> Operator:
    def reduce(op: Operation) -> str:
        return _reduced(op.graph, op_type, op.attributes, op.inputs[0])

    return reduce


def _reduced(graph: GraphBuilder, op_type: str, attributes: Attributes, data: str) -> str:
    axes = attributes.integers("axis")
    keeps = attributes.flag("keepdims")
    if attributes.flag("exclude"):
        excluded = {axis_of(graph, data, axis) for axis in axes}
        axes = tuple(axis for axis in range(graph.rank(data)) if axis not in excluded)
    options: dict[str, Any] = {"axes": axes} if axes else {}
    result = graph.add(op_type, data, keepdims=int(keeps), **options)
    if axes or keeps:
        return result
    return graph.add("Reshape", result, integers(graph, [1]))  # MXNet has no scalars here


def _norm(op: Operation) -> str:
    order = op.attributes.integer("ord", 2)
    if order not in (1, 2):
        raise InvalidArgument(f"its attribute ord can not be {order}")
    return _reduced(op.graph, f"ReduceL{order}", op.attributes, op.inputs[0])


def _index_of(op_type: str) -> Operator:
    """Indices come as floats."""

    def find(op: Operation) -> str:
        data, keeps = op.inputs[0], op.attributes.flag("keepdims")
        if "axis" in op.attributes:
            index = op.graph.add(
                op_type, data, axis=op.attributes.integer("axis", 0), keepdims=int(keeps)
            )
        else:
            flat = op.graph.add("Reshape", data, integers(op.graph, [-1]))
            index = op.graph.add(op_type, flat, axis=0, keepdims=1)
            if keeps:
                index = op.graph.add(
                    "Reshape", index, integers(op.graph, [1] * op.graph.rank(data))
                )
        return cast(op.graph, index, np.float32)

    return find


def _argmax_channel(op: Operation) -> str:
    return cast(op.graph, op.graph.add("ArgMax", op.inputs[0], axis=1, keepdims=0), np.float32)


def _top(op: Operation) -> list[str]:
    data = op.inputs[0]
    if "axis" not in op.attributes and op.attributes.text("axis"):
        raise InvalidArgument("its attribute axis can not be None")
    indices, values = _sorted(op.graph, op.attributes, data, op.attributes.integer("k", 1))
    kind = op.attributes.text("ret_typ", "indices")
    results = {"indices": [indices], "value": [values], "both": [values, indices]}
    if kind not in results:
        raise InvalidArgument(f"its attribute ret_typ can not be {kind!r}")
    return results[kind]


def _argsort(op: Operation) -> str:
    return _sorted(op.graph, op.attributes, op.inputs[0], 0, ascending=True)[0]


def _sort(op: Operation) -> str:
    return _sorted(op.graph, op.attributes, op.inputs[0], 0, ascending=True)[1]


def _sorted(
    graph: GraphBuilder, attributes: Attributes, data: str, count: int, ascending: bool = False
) -> tuple[str, str]:
    """Indices, in the type that the attribute says, and values; a count of 0 is of all."""
    axis = axis_of(graph, data, attributes.integer("axis", -1))
    if count > 0:
        number = integers(graph, [count])
    else:
        place = integers(graph, [axis])
        number = graph.add("Gather", graph.add("Shape", data), place, axis=0)
    largest = int(not attributes.flag("is_ascend", ascending))
    values, indices = graph.add_node("TopK", [data, number], 2, axis=axis, largest=largest)
    return cast(graph, indices, attributes.dtype("dtype", "float32")), values


def _dot(op: Operation) -> str:
    left, right = op.inputs[0], op.inputs[1]
    if op.attributes.flag("transpose_a"):
        left = op.graph.add("Transpose", left)
    if op.attributes.flag("transpose_b"):
        right = op.graph.add("Transpose", right)
    if op.graph.rank(left) > 2 or op.graph.rank(right) > 2:
        raise InvalidArgument("it can not be served with more than two dimensions")
    return op.graph.add("MatMul", left, right)


def _batch_dot(op: Operation) -> str:
    left, right = (
        _last_two_swapped(op.graph, each) if op.attributes.flag(name) else each
        for each, name in zip(op.inputs, ("transpose_a", "transpose_b"), strict=False)
    )
    return op.graph.add("MatMul", left, right)


def _gemm2(op: Operation) -> str:
    if op.attributes.integer("axis", -2) != -2:
        raise InvalidArgument("its attribute axis can only be -2")
    product = _batch_dot(op)
    factor = op.attributes.number("alpha", 1)
    return (
        product if factor == 1 else op.graph.add("Mul", product, scalar(op.graph, product, factor))
    )


def _last_two_swapped(graph: GraphBuilder, value: str) -> str:
    order = list(range(graph.rank(value)))
    return graph.add("Transpose", value, perm=[*order[:-2], order[-1], order[-2]])


def _by_root_of_size(op: Operation) -> str:
    shape = op.graph.shape(op.inputs[0])
    if not shape or shape[-1] is None:
        raise InvalidArgument("the size of its input's last dimension can not be told")
    return op.graph.add("Div", op.inputs[0], scalar(op.graph, op.inputs[0], math.sqrt(shape[-1])))


REDUCTIONS: Mapping[str, Operator] = {
    "_contrib_div_sqrt_dim": _by_root_of_size,
    "_linalg_gemm2": _gemm2,
    "argmax": _index_of("ArgMax"),
    "argmax_channel": _argmax_channel,
    "argmin": _index_of("ArgMin"),
    "argsort": _argsort,
    "batch_dot": _batch_dot,
    "dot": _dot,
    "linalg_gemm2": _gemm2,
    "max": _reduction("ReduceMax"),
    "max_axis": _reduction("ReduceMax"),
    "mean": _reduction("ReduceMean"),
    "min": _reduction("ReduceMin"),
    "min_axis": _reduction("ReduceMin"),
    "norm": _norm,
    "prod": _reduction("ReduceProd"),
    "sort": _sort,
    "sum": _reduction("ReduceSum"),
    "sum_axis": _reduction("ReduceSum"),
    "topk": _top,
}
