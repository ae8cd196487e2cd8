"""How an operator of MXNet is written as ONNX, and what many of them need for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_attributes import Attributes
from serving.loaders.onnx_builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class Operation:
    """One use of an operator: its inputs are values of the graph that it is added to."""

    graph: GraphBuilder
    attributes: Attributes
    inputs: Sequence[str]


Operator = Callable[[Operation], str | list[str]]
"""Adds what computes the operation's outputs to its graph, and gives their names.

Raises InvalidArgument for what can not be written as ONNX.
"""


def scalar(graph: GraphBuilder, like: str, value: float) -> str:
    """A constant of the type of another value. Raises InvalidArgument for a fraction that has to
    be an integer.
    """
    dtype = graph.dtype(like)
    if dtype.kind in "iub" and value != int(value):
        raise InvalidArgument(f"{value} is put together with integers")
    return graph.constant(np.array(value, dtype))


def cast(graph: GraphBuilder, value: str, dtype: Any) -> str:
    """The value in another type, or itself where it has that."""
    wanted = np.dtype(dtype)
    if graph.dtype(value) == wanted:
        return value
    return graph.add("Cast", value, to=ONNX_TYPES[wanted.name])


def axis_of(graph: GraphBuilder, value: str, axis: int) -> int:
    """The axis, counted from the front."""
    rank = graph.rank(value) if axis < 0 else None
    if rank is None:
        return axis
    if axis < -rank:
        raise InvalidArgument(f"there is no axis {axis} of {rank}")
    return axis + rank


def moved(graph: GraphBuilder, value: str, source: int, target: int) -> str:
    """The value with one of its axes at another place."""
    order = list(range(graph.rank(value)))
    order.insert(target, order.pop(source))
    return graph.add("Transpose", value, perm=order)


def integers(graph: GraphBuilder, values: Sequence[int]) -> str:
    """A constant list, as ONNX takes shapes and indices."""
    return graph.constant(np.array(values, np.int64))


ONNX_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}
"""The numbers of TensorProto.DataType."""
