"""Every operator of Caffe2 that is read, and what it is in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce

import numpy as np

from serving.loaders import caffe2_layers as layers
from serving.loaders import caffe2_windows as windows
from serving.loaders.caffe2_operator import Operator, Writer
from serving.loaders.caffe2_shapes import SHAPES
from serving.loaders.onnx_builder import aligned, divided

_SAME = {
    "Abs": "Abs",
    "Ceil": "Ceil",
    "Cos": "Cos",
    "Exp": "Exp",
    "Floor": "Floor",
    "Log": "Log",
    "Negative": "Neg",
    "Not": "Not",
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Sign": "Sign",
    "Sin": "Sin",
    "Softplus": "Softplus",
    "Softsign": "Softsign",
    "Sqrt": "Sqrt",
    "Tanh": "Tanh",
    # What a serving process has nothing to do for.
    "Alias": "Identity",
    "Copy": "Identity",
    "CopyCPUToGPU": "Identity",
    "CopyFromCPUInput": "Identity",
    "CopyGPUToCPU": "Identity",
    "Dropout": "Identity",
    "EnsureCPUOutput": "Identity",
    "StopGradient": "Identity",
}
"""Operators on one value that ONNX has under the name on the right."""

_OF_TWO = {
    "Add": "Add",
    "And": "And",
    "EQ": "Equal",
    "GE": "GreaterOrEqual",
    "GT": "Greater",
    "LE": "LessOrEqual",
    "LT": "Less",
    "Mul": "Mul",
    "Or": "Or",
    "Sub": "Sub",
    "Xor": "Xor",
}
_OF_SEVERAL = {"Max": "Max", "Mean": "Mean", "Min": "Min", "Sum": "Sum"}
_REDUCTIONS = {
    "ReduceL1": "ReduceL1",
    "ReduceL2": "ReduceL2",
    "ReduceMax": "ReduceMax",
    "ReduceMean": "ReduceMean",
    "ReduceMin": "ReduceMin",
    "ReduceSum": "ReduceSum",
}


def _unary(name: str, operator: Operator) -> Sequence[str]:
    return [operator.add(name, operator.input(0))]


def _binary(name: str, operator: Operator) -> Sequence[str]:
    a, b = operator.input(0), operator.input(1)
    return [operator.add(name, a, _aligned(operator, a, b))]


def _div(operator: Operator) -> Sequence[str]:
    a, b = operator.input(0), operator.input(1)
    return [divided(operator.graph, a, _aligned(operator, a, b))]


def _aligned(operator: Operator, a: str, b: str) -> str:
    """``b`` in a shape that numpy's rules broadcast as the arguments say."""
    arguments = operator.arguments
    if not arguments.integer("broadcast", 0):
        return b
    if "axis_str" in arguments:
        axis = arguments.text("order", "NCHW").find(arguments.text("axis_str", ""))
    else:
        axis = arguments.integer("axis", -1)
    return aligned(operator.graph, a, b, None if axis == -1 else axis)


def _variadic(name: str, operator: Operator) -> Sequence[str]:
    operator.input(0)
    return [operator.add(name, *operator.inputs)]


def _reduction(name: str, operator: Operator) -> Sequence[str]:
    arguments = operator.arguments
    axes = arguments.integers("axes")
    attributes = {"axes": axes} if axes else {}
    keeps = arguments.integer("keepdims", 1)
    return [operator.add(name, operator.input(0), keepdims=keeps, **attributes)]


def _with_numbers(name: str, defaults: Mapping[str, float], operator: Operator) -> Sequence[str]:
    """An operator whose arguments are called as ONNX calls its attributes."""
    numbers = {each: operator.arguments.number(each, value) for each, value in defaults.items()}
    return [operator.add(name, operator.input(0), **numbers)]


def _power(exponent: int, operator: Operator) -> Sequence[str]:
    x = operator.input(0)
    return [reduce(lambda y, each: operator.add("Mul", y, each), [x] * exponent)]


def _pow(operator: Operator) -> Sequence[str]:
    if len(operator.inputs) > 1:
        return _binary("Pow", operator)
    exponent = np.float32(operator.arguments.number("exponent", 0))
    return [operator.add("Pow", operator.input(0), operator.graph.constant(exponent))]


def _scale(operator: Operator) -> Sequence[str]:
    factor = np.float32(operator.arguments.number("scale", 1))
    return [operator.add("Mul", operator.input(0), operator.graph.constant(factor))]


def _clip(operator: Operator) -> Sequence[str]:
    largest = float(np.finfo(np.float32).max)
    bounds = (operator.arguments.number("min", -largest), operator.arguments.number("max", largest))
    constants = (operator.graph.constant(np.float32(bound)) for bound in bounds)
    return [operator.add("Clip", operator.input(0), *constants)]


def _swish(operator: Operator) -> Sequence[str]:
    x = operator.input(0)
    return [operator.add("Mul", x, operator.add("Sigmoid", x))]


def _reciprocal_root(operator: Operator) -> Sequence[str]:
    return [operator.add("Reciprocal", operator.add("Sqrt", operator.input(0)))]


def _arg_max(name: str, operator: Operator) -> Sequence[str]:
    arguments = operator.arguments
    axis, keeps = arguments.integer("axis", -1), arguments.integer("keepdims", 1)
    return [operator.add(name, operator.input(0), axis=axis, keepdims=keeps)]


def _top_k(operator: Operator) -> Sequence[str]:
    """The largest and their places."""
    count = np.array([operator.arguments.integer("k", 1)], np.int64)
    inputs = [operator.input(0), operator.graph.constant(count)]
    return operator.graph.add_node("TopK", inputs, 2, axis=operator.arguments.integer("axis", -1))


def _normalize(operator: Operator) -> Sequence[str]:
    """By the Euclidean length along ``axis``."""
    axis = operator.arguments.integer("axis", -1)
    return [operator.add("LpNormalization", operator.input(0), axis=axis, p=2)]


_SELU = {"alpha": 1.6732631921768188, "scale": 1.0507010221481323}


def _selu(operator: Operator) -> Sequence[str]:
    alpha = operator.arguments.number("alpha", _SELU["alpha"])
    gamma = operator.arguments.number("scale", _SELU["scale"])
    return [operator.add("Selu", operator.input(0), alpha=alpha, gamma=gamma)]


def _each(names: Mapping[str, str], write: Callable[[str, Operator], Sequence[str]]) -> Mapping:
    return {name: partial(write, onnx_name) for name, onnx_name in names.items()}


OPERATORS: Mapping[str, Writer] = {
    **_each(_SAME, _unary),
    **_each(_OF_TWO, _binary),
    **_each(_OF_SEVERAL, _variadic),
    **_each(_REDUCTIONS, _reduction),
    **SHAPES,
    "ArgMax": partial(_arg_max, "ArgMax"),
    "ArgMin": partial(_arg_max, "ArgMin"),
    "AveragePool": windows.average_pool,
    "BatchMatMul": layers.batch_matrix_product,
    "Clip": _clip,
    "Conv": windows.convolution,
    "ConvTranspose": windows.transposed_convolution,
    "Cube": partial(_power, 3),
    "Div": _div,
    "Elu": partial(_with_numbers, "Elu", {"alpha": 1.0}),
    "FC": layers.fully_connected,
    "FCTransposed": layers.fully_connected_transposed,
    "InstanceNorm": layers.instance_normalization,
    "LRN": layers.local_response_normalization,
    "LeakyRelu": partial(_with_numbers, "LeakyRelu", {"alpha": 0.01}),
    "MatMul": layers.matrix_product,
    "MaxPool": windows.max_pool,
    "Normalize": _normalize,
    "PRelu": layers.parametric_relu,
    "Pow": _pow,
    "Rsqrt": _reciprocal_root,
    "Scale": _scale,
    "Selu": _selu,
    "Softmax": layers.softmax,
    "SpatialBN": layers.batch_normalization,
    "Sqr": partial(_power, 2),
    "Swish": _swish,
    "TopK": _top_k,
} | {
    f"{name}{dimensions}D": write
    for name, write in (
        ("Conv", windows.convolution),
        ("MaxPool", windows.max_pool),
        ("AveragePool", windows.average_pool),
    )
    for dimensions in (1, 2, 3)
}
"""Caffe2's names, and what writes each of them down."""
