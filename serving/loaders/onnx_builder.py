"""An ONNX graph as it is written, node by node: what readers of other formats make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from onnx import helper, numpy_helper, shape_inference

from serving.core.dtypes import numpy_dtype
from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.core.servable import TensorInfo

OPSET = 12
"""The last in which Softmax still flattens, as the formats that are read do, and Squeeze has
attributes.
"""

_IR_VERSION = 7  # of the ONNX that brought the operator set
_MOST_BYTES = 2**31 - 1  # of a message, as which onnxruntime takes the model
_LARGEST_SHAPE = 64  # values; only those of weights so small say shapes

_REFUSALS = (
    shape_inference.InferenceError,
    onnx.checker.ValidationError,
    ValueError,
)
"""What ONNX raises for a node whose inputs or attributes are not the operator's."""

Shape = tuple[int | None, ...]


class GraphBuilder:
    """Values are texts that name them; each has its type and, where that can be told, its shape as
    soon as it is there. Not thread-safe.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        """``reserved`` are names that inputs and outputs will have."""
        self._names = set(reserved)
        self._last_numbers: dict[str, int] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._types: dict[str, onnx.TypeProto] = {}
        self._weights: dict[str, onnx.TensorProto] = {}
        self._bytes = 0

    def input(self, info: TensorInfo) -> str:
        """A value that each run brings. Raises InvalidArgument for a type that ONNX has not."""
        try:
            element = element_type(numpy_dtype(info.dtype))
        except (KeyError, ValueError) as error:
            label = info.dtype.label
            raise InvalidArgument(f"input '{info.name}' can not be of type {label}") from error
        value = helper.make_tensor_value_info(info.name, element, _symbols(info))
        self._names.add(info.name)
        self._inputs.append(value)
        self._types[info.name] = value.type
        return info.name

    def constant(self, array: Any, hint: str = "constant") -> str:
        """A value that is the same in each run; ``array`` is anything that numpy makes one of.

        Raises InvalidArgument where all of them are more than a model can hold.
        """
        weight = numpy_helper.from_array(np.ascontiguousarray(array), self._fresh(hint))
        self._bytes += len(weight.raw_data)
        if self._bytes > _MOST_BYTES:
            raise InvalidArgument("its weights are more than 2 GiB, which an ONNX model can not be")
        self._weights[weight.name] = weight
        self._types[weight.name] = helper.make_tensor_type_proto(weight.data_type, weight.dims)
        return weight.name

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """The only output of a new node; an input that is left out is an empty text.

        Raises InvalidArgument where the operator does not go with such inputs, FailedPrecondition
        for one that ONNX has not.
        """
        return self.add_node(op_type, inputs, 1, **attributes)[0]

    def add_node(
        self, op_type: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """The outputs of a new node. Raises as above."""
        if attributes.get("group", 1) < 1:  # onnxruntime would divide by it
            raise InvalidArgument(f"it can not be in {attributes['group']} groups")
        names = [self._fresh(op_type) for _ in range(outputs)]
        try:
            node = helper.make_node(op_type, inputs, names, **attributes)
        except _REFUSALS as error:
            raise InvalidArgument(f"its attributes are not those of a {op_type}") from error
        self._nodes.append(node)
        self._types |= self._inferred(node)
        return names

    def shape(self, value: str) -> Shape | None:
        """None for any number of dimensions, or where it can not be told."""
        tensor = self._types[value].tensor_type if value in self._types else None
        if tensor is None or not tensor.HasField("shape"):
            return None
        return tuple(
            size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim
        )

    def rank(self, value: str) -> int:
        """How many dimensions it has. Raises InvalidArgument where that can not be told."""
        shape = self.shape(value)
        if shape is None:
            raise InvalidArgument("the number of dimensions of an input can not be told")
        return len(shape)

    def dtype(self, value: str) -> np.dtype:
        """Raises InvalidArgument where that can not be told."""
        if value not in self._types:
            raise InvalidArgument("the type of an input can not be told")
        element = self._types[value].tensor_type.elem_type
        return np.dtype(helper.tensor_dtype_to_np_dtype(element))

    def weight(self, value: str) -> np.ndarray | None:
        """What a constant is; None for what is none."""
        weight = self._weights.get(value)
        return None if weight is None else numpy_helper.to_array(weight)

    def has_shape(self, value: str, shape: Shape | None) -> None:
        """Say what ONNX can not tell of a value, or tells wrongly."""
        element = self._types[value].tensor_type.elem_type
        self._types[value] = helper.make_tensor_type_proto(element, shape)

    def reshaped_like(self, value: str, other: str) -> str:
        """The value in the shape that another has in the run."""
        reshaped = self.add("Reshape", value, self.add("Shape", other))
        self.has_shape(reshaped, self.shape(other))
        return reshaped

    def model(self, outputs: Mapping[str, str]) -> onnx.ModelProto:
        """The model whose outputs, by their names, are these values; what none needs is left out.

        Raises InvalidArgument for an output that has the name of an input.
        """
        declared = [self._output(name, value) for name, value in outputs.items()]
        nodes, used = self._needed(outputs)
        graph = helper.make_graph(
            nodes,
            "converted",
            self._inputs,
            declared,
            [weight for name, weight in self._weights.items() if name in used],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = _IR_VERSION
        return model

    def _fresh(self, hint: str) -> str:
        name, number = hint, self._last_numbers.get(hint, 0)
        while name in self._names:
            number += 1
            name = f"{hint}_{number}"
        self._last_numbers[hint] = number
        self._names.add(name)
        return name

    def _inferred(self, node: onnx.NodeProto) -> Mapping[str, onnx.TypeProto]:
        known = {name: self._types[name] for name in node.input if name in self._types}
        shapes = {
            name: weight
            for name in node.input
            if (weight := self._weights.get(name)) and _size(weight.dims) <= _LARGEST_SHAPE
        }
        try:
            schema = onnx.defs.get_schema(node.op_type, OPSET)
            return dict(
                shape_inference.infer_node_outputs(
                    schema,
                    node,
                    known,
                    shapes,
                    opset_imports=[helper.make_opsetid("", OPSET)],
                    ir_version=_IR_VERSION,
                )
            )
        except onnx.defs.SchemaError as error:
            raise FailedPrecondition("the operator is not supported") from error
        except _REFUSALS as error:
            raise InvalidArgument(f"ONNX's {node.op_type} does not take it: {error}") from error

    def _output(self, name: str, value: str) -> onnx.ValueInfoProto:
        """Adds a node that gives the value the name: values keep those that they have."""
        if any(name == each.name for each in self._inputs):
            raise InvalidArgument(f"'{name}' is an input and an output as well")
        self._names.add(name)
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        known = self._types.get(value)
        return onnx.ValueInfoProto(name=name, type=known)

    def _needed(self, outputs: Iterable[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that the outputs depend on, in order, and all values that those read."""
        used = set(outputs)
        kept = []
        for node in reversed(self._nodes):
            if not used.isdisjoint(node.output):
                kept.append(node)
                used.update(node.input)
        return kept[::-1], used


def aligned(graph: GraphBuilder, a: str, b: str, axis: int | None) -> str:
    """``b`` in a shape that numpy's rules broadcast over the dimensions of ``a`` from ``axis`` on;
    None for the last ones. Raises InvalidArgument where a has too few.
    """
    if axis is None or graph.shape(b) in ((), (1,)):
        return b
    rank = graph.rank(b)
    axis = axis + graph.rank(a) if axis < 0 else axis
    behind = graph.rank(a) - axis - rank
    if behind < 0 or axis < 0:
        raise InvalidArgument(f"its second input can not be broadcast from dimension {axis} on")
    return graph.add("Unsqueeze", b, axes=list(range(rank, rank + behind))) if behind else b


def divided(graph: GraphBuilder, a: str, b: str) -> str:
    """``a`` by ``b``. Of int64, anything by -1 is its negative: onnxruntime leaves that to the
    processor, which ends the process where the least number has none.
    """
    if graph.dtype(a) != np.int64:
        return graph.add("Div", a, b)
    turns = graph.add("Equal", b, graph.constant(np.int64(-1)))
    quotient = graph.add("Div", a, graph.add("Where", turns, graph.constant(np.int64(1)), b))
    return graph.add("Where", turns, graph.add("Neg", a), quotient)


def element_type(dtype: np.dtype) -> int:
    """ONNX's number for it. Raises KeyError or ValueError for one that it has not."""
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def _symbols(info: TensorInfo) -> Sequence[int | str | None] | None:
    """Sizes of dimensions: the first is called as it is in all inputs where it may be any."""
    if info.shape is None:
        return None
    return [
        ("batch" if index == 0 else None) if size is None else size
        for index, size in enumerate(info.shape)
    ]


def _size(dims: Iterable[int]) -> int:
    size = 1
    for each in dims:
        size *= each
    return size


def serialized(model: onnx.ModelProto) -> bytes:
    """The model as onnxruntime takes it. Raises InvalidArgument for one of more than 2 GiB."""
    try:
        return model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise InvalidArgument("as an ONNX model it is more than 2 GiB") from error
