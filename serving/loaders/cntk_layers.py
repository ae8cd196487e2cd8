"""CNTK's functions that are layers with weights, pool or normalise."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.loaders.cntk_operator import Operator, Value, Writer

_MAX, _AVERAGE = 0, 1


def times(operator: Operator) -> str:
    """The matrix product, of the second input with the first in numpy's order.

    The first dimensions of the one are those that the last of the other are summed over.
    """
    left, right = operator.input(0), operator.input(1)
    left_sizes, right_sizes = operator.known_sample(left), operator.known_sample(right)
    summed = len(left_sizes) - operator.attributes.integer("outputRank", 1)
    if not 0 <= summed <= len(right_sizes):
        raise InvalidArgument(f"{summed} dimensions can not be summed over")
    inner, columns = left_sizes[:summed], left_sizes[summed:]
    rows = right_sizes[: len(right_sizes) - summed]
    if list(inner) != list(right_sizes[len(rows) :]):
        raise InvalidArgument(f"{list(right_sizes)} can not be multiplied with {list(left_sizes)}")
    is_vector = right.is_batch and not left.is_batch and not rows
    a = operator.reshaped(right, *([] if is_vector else [prod(rows)]), prod(inner))
    b = operator.reshaped(left, prod(inner), prod(columns))
    y = Value(operator.add("MatMul", a, b), operator.is_batch)
    return operator.reshaped(y, *rows, *columns)


def convolution(operator: Operator) -> str:
    """Weights [filters, channels, …] and an image [channels, …]."""
    weights, x, attributes = operator.input(0), operator.input(1), operator.attributes
    if attributes.flag("transpose") or not x.is_batch or weights.is_batch:
        raise FailedPrecondition("only plain convolutions of batches are supported")
    if not all(attributes.flags("sharing")):
        raise FailedPrecondition("filters that are not shared are not supported")
    sizes = operator.known_sample(x)
    kernel = operator.known_sample(weights)[2:]
    if len(sizes) != len(kernel) + 1:
        raise FailedPrecondition("filters that move along the channels are not supported")
    groups = attributes.integer("groups", 1)
    if operator.known_sample(weights)[1] * groups != sizes[0]:
        raise FailedPrecondition("filters of fewer channels than the image has are not supported")
    window = _window(operator, sizes[1:], kernel)
    return operator.add("Conv", x.name, weights.name, group=groups, **window)


def pooling(operator: Operator) -> str:
    """The largest of each window, or the mean."""
    x, attributes = operator.input(0), operator.attributes
    kind = attributes.integer("poolingType")
    if kind not in (_MAX, _AVERAGE) or not x.is_batch:
        raise FailedPrecondition(f"the pooling {kind} is not supported")
    sizes = operator.known_sample(x)
    kernel = _of_image(attributes.sizes("poolingWindowShape"), len(sizes) - 1, 1)
    if not sizes or attributes.flag("ceilOutDim"):
        raise FailedPrecondition("pooling is supported of images only, and not with ceilOutDim")
    window = _window(operator, sizes[1:], kernel)
    if kind == _MAX:
        return operator.add("MaxPool", x.name, **window)
    if set(window.pop("dilations")) != {1}:
        raise FailedPrecondition("windows with gaps are not supported")
    including = int(attributes.flag("includePad"))
    return operator.add("AveragePool", x.name, count_include_pad=including, **window)


def batch_normalization(operator: Operator) -> str:
    """x, scale, bias, mean and variance, of each channel or of each element."""
    x = operator.input(0)
    if not x.is_batch:
        raise FailedPrecondition("only batches can be normalised")
    statistics = [
        operator.reshaped(value, prod(operator.known_sample(value)))
        for value in (operator.input(index) for index in range(1, 5))
    ]
    epsilon = operator.attributes.number("epsilon", 1e-5)
    sizes = operator.known_sample(x)
    spatial = operator.attributes.flag("spatial")
    flat = x.name if spatial else operator.reshaped(x, prod(sizes))
    y = operator.add("BatchNormalization", flat, *statistics, epsilon=epsilon)
    return y if spatial else operator.reshaped(Value(y, True), *sizes)


def _window(operator: Operator, sizes: Sequence[int], kernel: Sequence[int]) -> dict[str, Any]:
    """The attributes of ONNX for the window, its steps and what is around the image."""
    attributes, dimensions = operator.attributes, len(sizes)
    strides = _of_image(attributes.sizes("strides"), dimensions, 1)
    gaps = _of_image(attributes.sizes("dilation"), dimensions, 1)
    if min([*kernel, *strides, *gaps], default=1) < 1:
        raise InvalidArgument(f"there is no window {list(kernel)} with the steps {list(strides)}")
    automatic = list(attributes.flags("autoPadding"))
    padded = automatic * dimensions if len(automatic) == 1 else automatic[-dimensions:]
    padded = [*[False] * (dimensions - len(padded)), *padded]
    lower = _of_image(attributes.sizes("lowerPad"), dimensions, 0)
    upper = _of_image(attributes.sizes("upperPad"), dimensions, 0)
    sides = [
        _around(size, (width - 1) * gap + 1, step) if is_padded else (before, behind)
        for size, width, gap, step, is_padded, before, behind in zip(
            sizes, kernel, gaps, strides, padded, lower, upper, strict=True
        )
    ]
    return {
        "kernel_shape": list(kernel),
        "strides": strides,
        "dilations": gaps,
        "pads": [before for before, _ in sides] + [behind for _, behind in sides],
    }


def _around(size: int, width: int, step: int) -> tuple[int, int]:
    """What CNTK puts before and behind an image, so that windows stand on its middle."""
    left_over = (size - 1) % step
    before = (width - 1) // 2 - left_over // 2
    behind = (width - 1) - left_over - before
    if before < 0:
        raise FailedPrecondition("windows smaller than their steps are not supported with padding")
    return before, max(behind, 0)


def _of_image(sizes: Sequence[int | None], dimensions: int, default: int) -> list[int]:
    """Those of the image, without that of the channels, which CNTK may leave out.

    One size is that of all dimensions.
    """
    known = [default if size is None else size for size in sizes]
    if len(known) == 1:
        return known * dimensions
    image = known[-dimensions:] if dimensions else []
    return [default] * (dimensions - len(image)) + image


WRITERS: dict[int, Writer] = {
    17: pooling,
    31: times,
    33: convolution,
    40: batch_normalization,
}
"""By CNTK's numbers of functions."""
