"""The layers of networks: those that have weights, pooling, activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_attributes import Attributes
from serving.loaders.mxnet_operator import Operation, Operator, cast, integers, scalar
from serving.loaders.onnx_builder import GraphBuilder

_LARGEST = 2**20  # of a window's sizes


def _fully_connected(op: Operation) -> str:
    data, weight = op.inputs[0], op.inputs[1]
    if op.graph.rank(weight) != 2:  # which onnxruntime would find out when it runs
        raise InvalidArgument(f"its weight has {op.graph.rank(weight)} dimensions")
    bias = [] if op.attributes.flag("no_bias") else [op.inputs[2]]
    if op.attributes.flag("flatten", True):
        return op.graph.add("Gemm", op.graph.add("Flatten", data, axis=1), weight, *bias, transB=1)
    product = op.graph.add("MatMul", data, op.graph.add("Transpose", weight, perm=[1, 0]))
    return op.graph.add("Add", product, *bias) if bias else product


def _convolution(op: Operation) -> str:
    def convolved(data: str, weight: str) -> str:
        bias = [] if op.attributes.flag("no_bias") else [op.inputs[2]]
        return op.graph.add(
            "Conv",
            data,
            weight,
            *bias,
            **_groups(op, weight),
        )

    return _channels_first(op.graph, op.attributes, convolved, op.inputs[0], op.inputs[1])


def _deconvolution(op: Operation) -> str:
    if any(op.attributes.integers("target_shape")):
        raise InvalidArgument("its attribute target_shape can not be served")
    adjusted = op.attributes.integers("adj") and _sizes(
        op.attributes, "adj", len(op.attributes.integers("kernel")), 0
    )

    def convolved(data: str, weight: str) -> str:
        bias = [] if op.attributes.flag("no_bias", True) else [op.inputs[2]]
        return op.graph.add(
            "ConvTranspose",
            data,
            weight,
            *bias,
            **({"output_padding": adjusted} if adjusted else {}),
            **_groups(op, weight),
        )

    return _channels_first(op.graph, op.attributes, convolved, op.inputs[0], op.inputs[1])


def _pooling(op: Operation) -> str:
    kind = op.attributes.text("pool_type", "max")
    pool = {"max": _max_pool, "avg": _average_pool, "sum": _sum_pool, "lp": _lp_pool}.get(kind)
    if pool is None:
        raise InvalidArgument(f"its attribute pool_type can not be {kind!r}")

    def pooled(data: str) -> str:
        if op.attributes.flag("global_pool"):
            return _global_pool(op.graph, op.attributes, kind, data)
        return pool(op.graph, op.attributes, data)

    return _channels_first(op.graph, op.attributes, pooled, op.inputs[0])


def _max_pool(graph: GraphBuilder, attributes: Attributes, data: str) -> str:
    return graph.add("MaxPool", data, ceil_mode=_rounds_up(attributes), **_window(attributes))


def _average_pool(graph: GraphBuilder, attributes: Attributes, data: str) -> str:
    return graph.add(
        "AveragePool",
        data,
        ceil_mode=_rounds_up(attributes),
        count_include_pad=int(attributes.flag("count_include_pad", True)),
        **_window(attributes),
    )


def _sum_pool(graph: GraphBuilder, attributes: Attributes, data: str) -> str:
    if _rounds_up(attributes):
        raise InvalidArgument("its pooling_convention can not be 'full' where it sums")
    average = graph.add("AveragePool", data, count_include_pad=1, **_window(attributes))
    return graph.add("Mul", average, scalar(graph, data, math.prod(attributes.integers("kernel"))))


def _lp_pool(graph: GraphBuilder, attributes: Attributes, data: str) -> str:
    if _rounds_up(attributes):
        raise InvalidArgument("its pooling_convention can not be 'full' with pool_type 'lp'")
    return graph.add(
        "LpPool", data, p=attributes.required_integer("p_value"), **_window(attributes)
    )


def _global_pool(graph: GraphBuilder, attributes: Attributes, kind: str, data: str) -> str:
    if kind == "sum":
        return graph.add("ReduceSum", data, axes=list(range(2, graph.rank(data))), keepdims=1)
    if kind == "lp":
        return graph.add("GlobalLpPool", data, p=attributes.required_integer("p_value"))
    return graph.add("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", data)


def _adaptive_average_pooling(op: Operation) -> str:
    sizes = op.attributes.integers("output_size", (1,))
    if set(sizes) != {1}:
        raise InvalidArgument(f"its attribute output_size can be no other than 1, not {sizes}")
    return op.graph.add("GlobalAveragePool", op.inputs[0])


def _rounds_up(attributes: Attributes) -> int:
    convention = attributes.text("pooling_convention", "valid")
    if convention not in ("valid", "full"):
        raise InvalidArgument(f"its attribute pooling_convention can not be {convention!r}")
    return int(convention == "full")


def _window(attributes: Attributes) -> dict[str, Sequence[int]]:
    """What a window that moves over the data has in ONNX; MXNet leaves out what is 1, or 0."""
    count = len(attributes.integers("kernel"))
    window: dict[str, Sequence[int]] = {
        "kernel_shape": _sizes(attributes, "kernel", count, 1),
        "strides": _sizes(attributes, "stride", count, 1),
        "pads": _sizes(attributes, "pad", count, 0) * 2,
    }
    if "dilate" in attributes:
        window["dilations"] = _sizes(attributes, "dilate", count, 1)
    return window


def _groups(op: Operation, weight: str) -> dict[str, Any]:
    """The same of a convolution. That weights are of its kernel, onnxruntime would find out when
    it runs.
    """
    window, groups = _window(op.attributes), op.attributes.integer("num_group", 1)
    shape = op.graph.shape(weight)
    if shape is None or shape[2:] != tuple(window["kernel_shape"]):
        raise InvalidArgument(f"its weight of the shape {shape} is of another kernel")
    if not 1 <= groups <= max(shape[0] or 0, shape[1] or 0):
        raise InvalidArgument(f"its attribute num_group can not be {groups}")
    return {"group": groups, **window}


def _sizes(attributes: Attributes, name: str, count: int, least: int) -> tuple[int, ...]:
    """One for each of the window's dimensions, the least where there are none. Others are refused
    here, as onnxruntime would not say of which layer they are.
    """
    sizes = attributes.integers(name) or (least,) * count
    if not count or len(sizes) != count or any(not least <= size <= _LARGEST for size in sizes):
        raise InvalidArgument(
            f"its attribute {name} can not be {attributes.text(name)!r} in {count} dimensions"
        )
    return sizes


def _channels_first(
    graph: GraphBuilder, attributes: Attributes, compute: Callable[..., str], *values: str
) -> str:
    """What is computed from data, and weights, whose channels stand last in some layouts."""
    layout = attributes.text("layout", "NC")
    if layout.startswith("NC"):
        return compute(*values)
    last = len(layout) - 1
    if layout not in ("NWC", "NHWC", "NDHWC"):
        raise InvalidArgument(f"its attribute layout can not be {layout!r}")
    to_front = [0, last, *range(1, last)]
    result = compute(*(graph.add("Transpose", value, perm=to_front) for value in values))
    return graph.add("Transpose", result, perm=[0, *range(2, last + 1), 1])


def _up_sampling(op: Operation) -> str:
    scale = op.attributes.required_integer("scale")
    kind = op.attributes.text("sample_type")
    if kind == "nearest" and len(op.inputs) == 1:
        scales = op.graph.constant(np.array([1, 1, scale, scale], np.float32))
        none = op.graph.constant(np.array([], np.float32))
        return op.graph.add(
            "Resize",
            op.inputs[0],
            none,
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    if kind == "bilinear" and len(op.inputs) == 2:
        size = 2 * scale - scale % 2
        padding = math.ceil((scale - 1) / 2)
        return op.graph.add(
            "ConvTranspose",
            *op.inputs,
            kernel_shape=[size, size],
            strides=[scale, scale],
            pads=[padding] * 4,
            group=op.attributes.required_integer("num_filter"),
        )
    raise InvalidArgument(f"it can not be served with {len(op.inputs)} inputs and {kind!r}")


def _embedding(op: Operation) -> str:
    """Indices are of any type, and those that are out of range stand for the nearest one."""
    indices, weight = op.inputs[0], op.inputs[1]
    last = op.attributes.required_integer("input_dim") - 1
    whole = cast(op.graph, indices, np.int64)
    inside = op.graph.add("Clip", whole, scalar(op.graph, whole, 0), scalar(op.graph, whole, last))
    return op.graph.add("Gather", weight, inside, axis=0)


def _activation(op: Operation) -> str:
    kind = op.attributes.text("act_type")
    data = op.inputs[0]
    if kind in _ACTIVATIONS:
        return op.graph.add(_ACTIVATIONS[kind], data)
    if kind == "log_sigmoid":
        return op.graph.add("Neg", op.graph.add("Softplus", op.graph.add("Neg", data)))
    if kind == "mish":
        return op.graph.add("Mul", data, op.graph.add("Tanh", op.graph.add("Softplus", data)))
    raise InvalidArgument(f"its attribute act_type can not be {kind!r}")


_ACTIVATIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softrelu": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}


def _leaky_relu(op: Operation) -> str:
    kind = op.attributes.text("act_type", "leaky")
    slope = op.attributes.number("slope", 0.25)
    data = op.inputs[0]
    match kind:
        case "leaky":
            return op.graph.add("LeakyRelu", data, alpha=slope)
        case "elu":
            return op.graph.add("Elu", data, alpha=slope)
        case "selu":
            return op.graph.add("Selu", data)
        case "gelu":
            return gelu(op.graph, data)
        case "prelu":
            return op.graph.add("PRelu", data, _by_channel(op.graph, data, op.inputs[1]))
    raise InvalidArgument(f"its attribute act_type can not be {kind!r}")


def gelu(graph: GraphBuilder, data: str) -> str:
    """The activation by that name, with the error function."""
    scaled = graph.add("Div", data, scalar(graph, data, math.sqrt(2)))
    both = graph.add("Add", graph.add("Erf", scaled), scalar(graph, data, 1))
    return graph.add("Mul", graph.add("Mul", data, both), scalar(graph, data, 0.5))


def _by_channel(graph: GraphBuilder, data: str, values: str) -> str:
    """One value for each channel, or for all, in a shape that goes with the data's."""
    shape = [-1] + [1] * max(graph.rank(data) - 2, 0)
    return graph.add("Reshape", values, integers(graph, shape))


LAYERS: Mapping[str, Operator] = {
    "Activation": _activation,
    "Convolution": _convolution,
    "Convolution_v1": _convolution,
    "Deconvolution": _deconvolution,
    "Embedding": _embedding,
    "FullyConnected": _fully_connected,
    "LeakyReLU": _leaky_relu,
    "Pooling": _pooling,
    "Pooling_v1": _pooling,
    "UpSampling": _up_sampling,
    "_contrib_AdaptiveAvgPooling2D": _adaptive_average_pooling,
}
