"""ONNX models of before 2018, written again with operators that onnxruntime has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from serving.core.dtypes import dtype_of
from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.servable import TensorInfo
from serving.loaders.model_file import read_model
from serving.loaders.onnx_builder import GraphBuilder, aligned, divided, serialized


def upgraded(file: Path) -> bytes:
    """The model of the file, serialized, with operators of a later set; same names, same answers.

    Raises FailedPrecondition for an operator that has no later form here, InvalidArgument for a
    model that does not fit together.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(read_model(file))
    except DecodeError as error:
        raise InvalidArgument("the ONNX model can not be loaded: it is damaged") from error
    return serialized(_rewritten(model.graph))


def _rewritten(old: onnx.GraphProto) -> onnx.ModelProto:
    weights = {weight.name for weight in old.initializer}
    inputs = [_info(value) for value in old.input if value.name not in weights]
    outputs = [value.name for value in old.output]
    graph = GraphBuilder([*(info.name for info in inputs), *outputs])
    values = {info.name: graph.input(info) for info in inputs}
    values |= {each.name: graph.constant(_array(each), each.name) for each in old.initializer}
    for node in old.node:
        where = f"{node.op_type} of '{', '.join(node.output)}'"
        unknown = [name for name in node.input if name and name not in values]
        if unknown:
            raise InvalidArgument(
                f"{where}: it reads '{unknown[0]}', which nothing before it makes"
            )
        try:
            made = _written(graph, node, [values[name] if name else "" for name in node.input])
        except ServingError as error:
            raise type(error)(f"{where}: {error.message}") from error
        except (IndexError, ValueError, OverflowError, TypeError) as error:
            raise InvalidArgument(f"{where}: its inputs and attributes do not fit") from error
        values.update(zip(node.output, made, strict=False))
    missing = [name for name in outputs if name not in values]
    if missing or not outputs:
        raise InvalidArgument(f"nothing makes the output '{''.join(missing[:1])}'")
    return graph.model({name: values[name] for name in outputs})


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    try:
        dtype = dtype_of(np.empty(0, helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    except (KeyError, TypeError) as error:
        raise InvalidArgument(f"input '{value.name}' is no tensor of a known type") from error
    if not tensor.HasField("shape"):
        return TensorInfo(value.name, dtype, None)
    sizes = (size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
    return TensorInfo(value.name, dtype, tuple(sizes))


def _array(weight: onnx.TensorProto) -> np.ndarray:
    """Raises InvalidArgument for one that lies in another file: models of that age have none."""
    if weight.data_location == onnx.TensorProto.EXTERNAL or weight.external_data:
        raise InvalidArgument(f"weight '{weight.name}' lies in another file")
    try:
        return numpy_helper.to_array(weight)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(f"weight '{weight.name}' is damaged: {error}") from error


def _written(graph: GraphBuilder, node: onnx.NodeProto, inputs: Sequence[str]) -> Sequence[str]:
    if node.domain not in ("", "ai.onnx"):
        raise FailedPrecondition(f"operators of {node.domain} are not upgraded")
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise FailedPrecondition("operators that have graphs in them are not upgraded")
    if node.op_type == "Constant":
        return [graph.constant(_array(node.attribute[0].t))] if node.attribute else []
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    for name in ("consumed_inputs", "output_sequence"):  # which said nothing of the answers
        attributes.pop(name, None)
    write = _CHANGED.get(node.op_type)
    if write is not None:
        return [write(graph, node.op_type, inputs, attributes)]
    return graph.add_node(node.op_type, inputs, len(node.output), **attributes)


_Attributes = dict[str, Any]
_Write = Callable[[GraphBuilder, str, Sequence[str], _Attributes], str]


def _broadcast(
    graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes
) -> str:
    """The second input in dimensions of the first from ``axis`` on, only where it is said."""
    if len(inputs) != 2:
        raise InvalidArgument(f"it has {len(inputs)} inputs, and needs 2")
    a, b = inputs
    if attributes.get("broadcast", 0):
        b = aligned(graph, a, b, attributes.get("axis"))
    return divided(graph, a, b) if op_type == "Div" else graph.add(op_type, a, b)


def _without(*names: str) -> _Write:
    """An operator that lost these attributes, and has only its first output in use."""

    def write(
        graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes
    ) -> str:
        kept = {name: value for name, value in attributes.items() if name not in names}
        return graph.add(op_type, *inputs, **kept)

    return write


def _with_inputs(**kinds: type | None) -> _Write:
    """An operator whose attributes of these names have become inputs, in this order; None for the
    type of what it computes with.
    """

    def write(
        graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes
    ) -> str:
        added = [
            graph.constant(np.array(attributes.pop(name), kind or graph.dtype(inputs[0])), name)
            if name in attributes
            else ""
            for name, kind in kinds.items()
        ]
        while added and not added[-1]:
            del added[-1]
        return graph.add(op_type, *inputs, *added, **attributes)

    return write


def _dropout(graph: GraphBuilder, _op: str, inputs: Sequence[str], _set: _Attributes) -> str:
    return graph.add("Identity", *inputs[:1])


def _batch_normalization(
    graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes
) -> str:
    if attributes.get("spatial", 1) != 1:
        raise FailedPrecondition("it normalises each pixel, which later operators do not")
    return graph.add(op_type, *inputs, epsilon=attributes.get("epsilon", 1e-5))


def _cast(graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes) -> str:
    """Types were texts before they were numbers."""
    to = attributes.get("to", b"")
    if isinstance(to, bytes):
        name = to.decode("utf-8", "replace").upper()
        if name not in onnx.TensorProto.DataType.keys():  # noqa: SIM118 - protobuf's, no mapping
            raise InvalidArgument(f"there is no type {name}")
        to = onnx.TensorProto.DataType.Value(name)
    return graph.add(op_type, *inputs, to=to)


def _concat(
    graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes
) -> str:
    return graph.add(op_type, *inputs, axis=attributes.get("axis", 1))


def _pad(graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes) -> str:
    pads = np.array(attributes.get("pads", attributes.get("paddings", [])), np.int64)
    value = np.array(attributes.get("value", 0), graph.dtype(inputs[0]))
    mode = attributes.get("mode", b"constant")
    return graph.add(op_type, *inputs, graph.constant(pads), graph.constant(value), mode=mode)


def _parametric_relu(
    graph: GraphBuilder, op_type: str, inputs: Sequence[str], _set: _Attributes
) -> str:
    """A slope was that of a channel."""
    x, slope = inputs
    return graph.add(op_type, x, aligned(graph, x, slope, 1))


def _slice(
    graph: GraphBuilder, op_type: str, inputs: Sequence[str], attributes: _Attributes
) -> str:
    names = [name for name in ("starts", "ends", "axes") if name in attributes]
    bounds = [graph.constant(np.array(attributes[name], np.int64), name) for name in names]
    return graph.add(op_type, *inputs, *bounds)


def _upsample(graph: GraphBuilder, _op: str, inputs: Sequence[str], attributes: _Attributes) -> str:
    sides = [attributes.get(f"{side}_scale", 1.0) for side in ("height", "width")]
    scales = np.array(attributes.get("scales", [1.0, 1.0, *sides]), np.float32)
    mode = attributes.get("mode", b"nearest")
    return graph.add(
        "Resize",
        *inputs,
        graph.constant(np.array([], np.float32), "roi"),
        graph.constant(scales, "scales"),
        coordinate_transformation_mode="asymmetric",
        mode="nearest" if mode == b"nearest" else "linear",
        nearest_mode="floor",
    )


_TWO = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
_CHANGED: Mapping[str, _Write] = {
    **dict.fromkeys(_TWO, _broadcast),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _with_inputs(min=None, max=None),
    "Concat": _concat,
    "Dropout": _dropout,
    "Gemm": _without("broadcast"),
    "PRelu": _parametric_relu,
    "Pad": _pad,
    "Reshape": _with_inputs(shape=np.int64),
    "Slice": _slice,
    "Upsample": _upsample,
}
"""The operators of which something changed between the first set and the one that is written."""
