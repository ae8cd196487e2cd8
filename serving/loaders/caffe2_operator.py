"""One operator of a Caffe2 network, as those who write it down in ONNX see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.core.errors import InvalidArgument
from serving.loaders.caffe2_arguments import Arguments
from serving.loaders.onnx_builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class Operator:
    """``inputs`` are values of ``graph``, which what the operator computes is added to."""

    type: str
    inputs: Sequence[str]
    output_count: int
    arguments: Arguments
    graph: GraphBuilder

    def input(self, index: int) -> str:
        """Raises InvalidArgument where there are fewer."""
        if index >= len(self.inputs):
            raise InvalidArgument(f"it has {len(self.inputs)} inputs, and needs {index + 1}")
        return self.inputs[index]

    def axis(self, rank: int, default: int, name: str = "axis") -> int:
        """A dimension of ``rank``, counted from the front. Raises InvalidArgument for others."""
        axis = self.arguments.integer(name, default)
        if not -rank <= axis < rank:
            raise InvalidArgument(f"{name} {axis} is none of {rank} dimensions")
        return axis % rank

    @property
    def channels_last(self) -> bool:
        """Raises InvalidArgument for an order that is neither NCHW nor NHWC."""
        order = self.arguments.text("order", "NCHW")
        if order not in ("NCHW", "NHWC"):
            raise InvalidArgument(f"there is no order {order!r}")
        return order == "NHWC"

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node of the graph."""
        return self.graph.add(op_type, *inputs, **attributes)


Writer = Callable[[Operator], Sequence[str]]
"""Adds an operator to its graph and gives the values of its outputs, the first ones at least."""


def channels_first(operator: Operator, value: str) -> str:
    """The value in ONNX's order: [rows, channels, …]."""
    if not operator.channels_last:
        return value
    rank = operator.graph.rank(value)
    return operator.add("Transpose", value, perm=[0, rank - 1, *range(1, rank - 1)])


def as_it_was(operator: Operator, value: str) -> str:
    """The opposite of :func:`channels_first`."""
    if not operator.channels_last:
        return value
    rank = operator.graph.rank(value)
    return operator.add("Transpose", value, perm=[0, *range(2, rank), 1])
