"""Caffe2's nets as ONNX models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.servable import TensorInfo
from serving.generated.caffe2_net_pb2 import NetDef, OperatorDef
from serving.loaders.caffe2_arguments import Arguments
from serving.loaders.caffe2_files import (
    INIT_NET,
    PREDICT_NET,
    VALUE_INPUTS,
    read_nets,
    value_inputs,
)
from serving.loaders.caffe2_operator import Operator
from serving.loaders.caffe2_operators import OPERATORS
from serving.loaders.caffe2_weights import filled
from serving.loaders.onnx_builder import GraphBuilder
from serving.loaders.signature_file import SIGNATURE_FILE, read_signature_file


def caffe2_to_onnx(path: str) -> onnx.ModelProto:
    """The model of the version directory ``path``: init_net.pb, predict_net.pb, and what requests
    bring, in signature.json or value_inputs.json.

    The sizes of value_inputs.json are those of a batch, so the first one may be any, unless an
    output shows that the net can not take others; signature.json means what it says. Raises
    NotFound without one of the nets, FailedPrecondition for an operator that is not supported or
    makes random weights, InvalidArgument for anything else that is wrong with the files.
    """
    nets = read_nets(path)
    declared = read_signature_file(path)
    outputs = list(declared.outputs or dict.fromkeys(nets[1].external_output))
    if not outputs:
        raise InvalidArgument(f"{PREDICT_NET} names no external_output")
    if declared.inputs is not None:
        return _converted(nets, declared.inputs, outputs)
    given = value_inputs(path)
    if given is None:
        unknown = ", ".join(_inputs_of(nets)) or "its inputs"
        raise InvalidArgument(
            f"{SIGNATURE_FILE} or {VALUE_INPUTS} has to give the types and shapes of {unknown}"
        )
    batches = {name: _of_any_batch(info) for name, info in given.items()}
    try:
        model = _converted(nets, batches, outputs)
    except InvalidArgument:
        return _converted(nets, given, outputs)
    return model if _is_batched(model) else _converted(nets, given, outputs)


def _inputs_of(nets: tuple[NetDef, NetDef]) -> Sequence[str]:
    """What the second net reads and neither makes."""
    made = {name for operator in nets[0].op for name in operator.output}
    return [name for name in nets[1].external_input if name not in made]


def _of_any_batch(info: TensorInfo) -> TensorInfo:
    return replace(info, shape=(None, *info.shape[1:])) if info.shape else info


def _is_batched(model: onnx.ModelProto) -> bool:
    """Whether no output has a first dimension that is the same for all batches."""
    shapes = [output.type.tensor_type.shape.dim for output in model.graph.output]
    return not any(shape and shape[0].HasField("dim_value") for shape in shapes)


def _converted(
    nets: tuple[NetDef, NetDef], inputs: Mapping[str, TensorInfo], outputs: Sequence[str]
) -> onnx.ModelProto:
    graph = GraphBuilder([*inputs, *outputs])
    blobs: dict[str, str] = {}
    for operator in nets[0].op:
        # Exporters fill the inputs too, with what nobody reads.
        if inputs.keys().isdisjoint(operator.output):
            _run(graph, operator, blobs, INIT_NET)
    blobs |= {name: graph.input(info) for name, info in inputs.items()}
    for operator in nets[1].op:
        _run(graph, operator, blobs, PREDICT_NET)
    missing = [name for name in outputs if name not in blobs]
    if missing:
        raise InvalidArgument(f"{PREDICT_NET}: nothing writes the output '{missing[0]}'")
    return graph.model({name: blobs[name] for name in outputs})


def _run(graph: GraphBuilder, written: OperatorDef, blobs: dict[str, str], file: str) -> None:
    """As Caffe2 would, but for writing down what is computed instead of computing it.

    ``blobs`` are the values that the blobs have by then; one that is written again has another.
    """
    where = f"{file}: {written.type} of '{', '.join(written.output)}'"
    unknown = [name for name in written.input if name not in blobs]
    if unknown:
        raise InvalidArgument(
            f"{where}: it reads '{unknown[0]}', which is neither filled nor input"
        )
    try:
        values = _values(graph, written, [blobs[name] for name in written.input])
    except ServingError as error:
        raise type(error)(f"{where}: {error.message}") from error
    except (IndexError, ValueError, OverflowError, TypeError) as error:
        raise InvalidArgument(f"{where}: its inputs and arguments do not fit") from error
    for name in written.output:
        blobs.pop(name, None)
    blobs.update(zip(written.output, values, strict=False))


def _values(graph: GraphBuilder, written: OperatorDef, inputs: Sequence[str]) -> Sequence[str]:
    arguments = Arguments(written)
    if not inputs:
        weights = filled(written.type, arguments)
        if weights is not None:
            return [graph.constant(weights, written.output[0] if written.output else "weights")]
    write = OPERATORS.get(written.type)
    if write is None:
        raise FailedPrecondition("the operator is not supported")
    return write(Operator(written.type, inputs, len(written.output), arguments, graph))
