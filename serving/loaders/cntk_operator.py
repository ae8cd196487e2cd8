"""One function of a CNTK model, as those who write it down in ONNX see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.generated.cntk_model_pb2 import Axis
from serving.loaders.cntk_values import Values
from serving.loaders.onnx_builder import GraphBuilder

END = 2**31 - 4
ALL_STATIC = 2**31 - 2
"""What CNTK writes instead of an index: behind the last dimension, and all of a sample's."""


@dataclass(frozen=True, slots=True)
class Value:
    """``name`` is what the graph calls it; a batch has one dimension more than its samples, the
    first.
    """

    name: str
    is_batch: bool


@dataclass(frozen=True, slots=True)
class Operator:
    """``inputs`` are values of ``graph``, which what the function computes is added to."""

    inputs: Sequence[Value]
    attributes: Values
    graph: GraphBuilder

    def input(self, index: int) -> Value:
        """Raises InvalidArgument where there are fewer."""
        if index >= len(self.inputs):
            raise InvalidArgument(f"it has {len(self.inputs)} inputs, and needs {index + 1}")
        return self.inputs[index]

    @property
    def is_batch(self) -> bool:
        """Whether any input is one."""
        return any(each.is_batch for each in self.inputs)

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node of the graph."""
        return self.graph.add(op_type, *inputs, **attributes)

    def rank(self, value: Value) -> int:
        """Of a sample."""
        return self.graph.rank(value.name) - value.is_batch

    def sample(self, value: Value) -> Sequence[int | None]:
        """The sizes of a sample. Raises InvalidArgument where their number can not be told."""
        self.graph.rank(value.name)
        return (self.graph.shape(value.name) or ())[int(value.is_batch) :]

    def known_sample(self, value: Value) -> Sequence[int]:
        """The same. Raises FailedPrecondition where one of them is another in each request."""
        sizes = self.sample(value)
        known = [size for size in sizes if size is not None]
        if len(known) != len(sizes):
            raise FailedPrecondition("an input has a free dimension, which is not supported here")
        return known

    def reshaped(self, value: Value, *sizes: int) -> str:
        """With samples of these sizes."""
        batch = [-1] if value.is_batch else []
        shape = self.graph.constant(np.array([*batch, *sizes], np.int64))
        return self.add("Reshape", value.name, shape)

    def dimension(self, axis: Axis, value: Value) -> int:
        """The dimension of a value that an axis of its samples is.

        Raises FailedPrecondition for that of the batch or a sequence, InvalidArgument for one that
        the samples do not have.
        """
        rank, index = self.rank(value), axis.static_axis_idx
        if axis.name and not axis.name.startswith("staticAxis"):
            raise FailedPrecondition(f"it is along '{axis.name}', which is not supported")
        if not -rank <= index < rank:
            raise InvalidArgument(f"axis {index} is none of {rank} dimensions")
        return rank - 1 - index % rank + value.is_batch


Writer = Callable[[Operator], str]
"""Adds a function to its graph and gives its only output, a batch where any input is one."""
