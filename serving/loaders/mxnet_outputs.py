"""What networks end with: softmax in its kinds, and the outputs that training has a loss for.

These take labels as well, which no prediction depends on.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_attributes import Attributes
from serving.loaders.mxnet_operator import Operation, Operator, axis_of, cast, moved, scalar
from serving.loaders.onnx_builder import GraphBuilder


def _softmax_output(op: Operation) -> str:
    if op.attributes.flag("multi_output"):
        return _along(op.graph, op.inputs[0], 1, "Softmax")
    if op.attributes.flag("preserve_shape"):
        return _along(op.graph, op.inputs[0], -1, "Softmax")
    return op.graph.add("Softmax", op.inputs[0], axis=1)  # over all that is behind the rows


def _softmax_activation(op: Operation) -> str:
    channel = op.attributes.text("mode", "instance") == "channel"
    return _along(op.graph, op.inputs[0], 1 if channel else -1, "Softmax")


def _softmax(op: Operation) -> str:
    return _scaled(op.graph, op.attributes, op.inputs[0], "Softmax")


def _log_softmax(op: Operation) -> str:
    return _scaled(op.graph, op.attributes, op.inputs[0], "LogSoftmax")


def _softmin(op: Operation) -> str:
    return _scaled(op.graph, op.attributes, op.graph.add("Neg", op.inputs[0]), "Softmax")


def _scaled(graph: GraphBuilder, attributes: Attributes, data: str, function: str) -> str:
    if attributes.flag("use_length"):
        raise InvalidArgument("its attribute use_length can not be served")
    temperature = attributes.number("temperature", 1)
    if temperature != 1:
        data = graph.add("Div", data, scalar(graph, data, temperature))
    result = _along(graph, data, attributes.integer("axis", -1), function)
    return cast(graph, result, attributes.dtype("dtype", graph.dtype(result).name))


def _along(graph: GraphBuilder, data: str, axis: int, function: str) -> str:
    """ONNX's functions take together all axes from the one on, so it has to be the last."""
    if axis == -1:
        return graph.add(function, data, axis=-1)
    place, last = axis_of(graph, data, axis), graph.rank(data) - 1
    result = graph.add(function, moved(graph, data, place, last), axis=last)
    return moved(graph, result, last, place)


def _logistic_output(op: Operation) -> str:
    return op.graph.add("Sigmoid", op.inputs[0])


def _unchanged(op: Operation) -> str:
    return op.inputs[0]


def _dropout(op: Operation) -> str:
    if op.attributes.text("mode", "training") == "always":
        raise InvalidArgument("its attribute mode can not be 'always', which is random")
    return op.inputs[0]


OUTPUTS: Mapping[str, Operator] = {
    "BlockGrad": _unchanged,
    "Dropout": _dropout,
    "IdentityAttachKLSparseReg": _unchanged,
    "LinearRegressionOutput": _unchanged,
    "LogisticRegressionOutput": _logistic_output,
    "MAERegressionOutput": _unchanged,
    "MakeLoss": _unchanged,
    "SVMOutput": _unchanged,
    "Softmax": _softmax_output,
    "SoftmaxActivation": _softmax_activation,
    "SoftmaxOutput": _softmax_output,
    "_copy": _unchanged,
    "identity": _unchanged,
    "log_softmax": _log_softmax,
    "make_loss": _unchanged,
    "softmax": _softmax,
    "softmin": _softmin,
    "stop_gradient": _unchanged,
}

LABELLED = frozenset(
    {
        "LinearRegressionOutput",
        "LogisticRegressionOutput",
        "MAERegressionOutput",
        "SVMOutput",
        "Softmax",
        "SoftmaxOutput",
    }
)
"""Those whose second input is a label."""
