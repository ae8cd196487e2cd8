"""Operators that choose elements by indices, which may be of any type."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_operator import Operation, Operator, axis_of, cast, integers, scalar


def _take(op: Operation) -> str:
    data = op.inputs[0]
    axis = axis_of(op.graph, data, op.attributes.integer("axis", 0))
    indices = cast(op.graph, op.inputs[1], np.int64)
    mode = op.attributes.text("mode", "clip")
    size = op.graph.add("Gather", op.graph.add("Shape", data), integers(op.graph, [axis]), axis=0)
    if mode == "clip":
        last = op.graph.add("Sub", size, integers(op.graph, [1]))
        indices = op.graph.add(
            "Max", op.graph.add("Min", indices, last), scalar(op.graph, indices, 0)
        )
    elif mode == "wrap":
        indices = op.graph.add("Mod", indices, size)
    else:
        raise InvalidArgument(f"its attribute mode can not be {mode!r}")
    return op.graph.add("Gather", data, indices, axis=axis)


def _one_hot(op: Operation) -> str:
    """An index that is out of range gives a row without a 1, also where it is below 0."""
    depth = op.attributes.required_integer("depth")
    dtype = op.attributes.dtype("dtype", "float32")
    on, off = op.attributes.number("on_value", 1), op.attributes.number("off_value", 0)
    indices = op.graph.add("Unsqueeze", cast(op.graph, op.inputs[0], np.int64), axes=[-1])
    if not 0 < depth <= 2**24:
        raise InvalidArgument(f"its attribute depth can not be {depth}")
    same = op.graph.add("Equal", indices, op.graph.constant(np.arange(depth)))
    values = (op.graph.constant(np.array(value, dtype)) for value in (on, off))
    return op.graph.add("Where", same, *values)


def _pick(op: Operation) -> str:
    data = op.inputs[0]
    if op.attributes.text("mode", "clip") != "clip":
        raise InvalidArgument("its attribute mode can only be 'clip'")
    axis = axis_of(op.graph, data, op.attributes.integer("axis", -1))
    indices = cast(op.graph, op.inputs[1], np.int64)
    if op.graph.rank(indices) < op.graph.rank(data):
        indices = op.graph.add("Unsqueeze", indices, axes=[axis])
    size = op.graph.add("Gather", op.graph.add("Shape", data), integers(op.graph, [axis]), axis=0)
    last = op.graph.add("Sub", size, integers(op.graph, [1]))
    inside = op.graph.add("Max", op.graph.add("Min", indices, last), scalar(op.graph, indices, 0))
    picked = op.graph.add("GatherElements", data, inside, axis=axis)
    return (
        picked if op.attributes.flag("keepdims") else op.graph.add("Squeeze", picked, axes=[axis])
    )


def _gather_nd(op: Operation) -> str:
    """MXNet has the coordinates of an element in a column, ONNX in a row."""
    order = [*range(1, op.graph.rank(op.inputs[1])), 0]
    indices = op.graph.add("Transpose", cast(op.graph, op.inputs[1], np.int64), perm=order)
    return op.graph.add("GatherND", op.inputs[0], indices)


SELECTION: Mapping[str, Operator] = {
    "gather_nd": _gather_nd,
    "one_hot": _one_hot,
    "pick": _pick,
    "take": _take,
}
