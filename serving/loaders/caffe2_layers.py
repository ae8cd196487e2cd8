"""Caffe2's operators that are layers with weights, or normalise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.core.errors import FailedPrecondition
from serving.loaders.caffe2_operator import Operator, as_it_was, channels_first


def fully_connected(operator: Operator) -> Sequence[str]:
    """X, of which the dimensions from ``axis`` on are one, W [outputs, inputs] and the bias."""
    return _fully_connected(operator, transposed=True)


def fully_connected_transposed(operator: Operator) -> Sequence[str]:
    """The same with W [inputs, outputs]."""
    return _fully_connected(operator, transposed=False)


def _fully_connected(operator: Operator, *, transposed: bool) -> Sequence[str]:
    x, weights, bias = (operator.input(index) for index in range(3))
    rank = operator.graph.rank(x)
    axis = operator.axis(rank, 1)
    if operator.graph.rank(weights) != 2:
        axis_w = operator.axis(operator.graph.rank(weights), 1, "axis_w")
        weights = operator.add("Flatten", weights, axis=axis_w)
    flat = x if (rank, axis) == (2, 1) else operator.add("Flatten", x, axis=axis)
    y = operator.add("Gemm", flat, weights, bias, transB=int(transposed))
    return [y if axis == 1 else _unflattened(operator, y, x, axis)]


def _unflattened(operator: Operator, y: str, x: str, axis: int) -> str:
    """``y`` [rows, n] with the first ``axis`` dimensions of x in the place of rows."""
    graph = operator.graph
    indices = (graph.constant([0]), graph.constant([axis]), graph.constant([0]))
    leading = operator.add("Slice", operator.add("Shape", x), *indices)
    shape = operator.add("Concat", leading, graph.constant([-1]), axis=0)
    return operator.add("Reshape", y, shape)


def matrix_product(operator: Operator) -> Sequence[str]:
    """A and B, each made a matrix at its axis."""
    graph = operator.graph
    matrices = []
    for index, name in enumerate(("axis_a", "axis_b")):
        value = operator.input(index)
        rank = graph.rank(value)
        axis = operator.axis(rank, 1, name)
        is_one = (rank, axis) == (2, 1)
        matrices.append(value if is_one else operator.add("Flatten", value, axis=axis))
    transposed = {
        "transA": operator.arguments.integer("trans_a", 0),
        "transB": operator.arguments.integer("trans_b", 0),
    }
    return [operator.add("Gemm", *matrices, **transposed)]


def batch_matrix_product(operator: Operator) -> Sequence[str]:
    """A and B, of which the last two dimensions are matrices."""
    matrices = []
    for index, name in enumerate(("trans_a", "trans_b")):
        value = operator.input(index)
        if operator.arguments.integer(name, 0):
            rank = operator.graph.rank(value)
            value = operator.add("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])
        matrices.append(value)
    return [operator.add("MatMul", *matrices)]


def batch_normalization(operator: Operator) -> Sequence[str]:
    """X, scale, bias, mean and variance, as in inference."""
    if not operator.arguments.integer("is_test", 0):
        raise FailedPrecondition("it normalises as in training; save the net with is_test")
    image = channels_first(operator, operator.input(0))
    statistics = [operator.input(index) for index in range(1, 5)]
    epsilon = operator.arguments.number("epsilon", 1e-5)
    y = operator.add("BatchNormalization", image, *statistics, epsilon=epsilon)
    return [as_it_was(operator, y)]


def instance_normalization(operator: Operator) -> Sequence[str]:
    """X, scale and bias."""
    image = channels_first(operator, operator.input(0))
    epsilon = operator.arguments.number("epsilon", 1e-5)
    scale, bias = operator.input(1), operator.input(2)
    y = operator.add("InstanceNormalization", image, scale, bias, epsilon=epsilon)
    return [as_it_was(operator, y)]


def local_response_normalization(operator: Operator) -> Sequence[str]:
    """Over ``size`` neighbouring channels."""
    arguments = operator.arguments
    attributes: dict[str, Any] = {
        "size": arguments.integer("size", 0),
        "alpha": arguments.number("alpha", 0),
        "beta": arguments.number("beta", 0),
        "bias": arguments.number("bias", 1),
    }
    y = operator.add("LRN", channels_first(operator, operator.input(0)), **attributes)
    return [as_it_was(operator, y)]


def parametric_relu(operator: Operator) -> Sequence[str]:
    """X and a slope, of all channels or of each."""
    graph = operator.graph
    image, slope = channels_first(operator, operator.input(0)), operator.input(1)
    if graph.shape(slope) != (1,) and (spatial := graph.rank(image) - 2) > 0:
        slope = operator.add("Unsqueeze", slope, axes=list(range(1, spatial + 1)))
    return [as_it_was(operator, operator.add("PRelu", image, slope))]


def softmax(operator: Operator) -> Sequence[str]:
    """Over all dimensions from ``axis`` on, together."""
    x = operator.input(0)
    return [operator.add("Softmax", x, axis=operator.axis(operator.graph.rank(x), 1))]
