"""MXNet's Reshape, whose sizes may be codes for dimensions of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_operator import integers
from serving.loaders.onnx_builder import GraphBuilder

_SAME, _REST, _ALL_OTHERS, _TWO_TOGETHER, _TWO_OF_ONE = 0, -1, -2, -3, -4


@dataclass(frozen=True, slots=True)
class _Dimensions:
    """A size that is the product of some dimensions of the input, divided by a number."""

    first: int
    count: int = 1
    divisor: int = 1


def reshaped(graph: GraphBuilder, data: str, codes: Sequence[int], *, from_behind: bool) -> str:
    """The data in the shape that the codes mean; from behind, they are matched with the
    dimensions beginning with the last ones.
    """
    if from_behind and set(codes) & {_ALL_OTHERS, _TWO_TOGETHER, _TWO_OF_ONE}:
        raise InvalidArgument("its attribute reverse can not be served with such a shape")
    if all(code >= _REST for code in codes) and not from_behind:
        return graph.add("Reshape", data, integers(graph, codes))  # the same in ONNX
    if from_behind:
        offset = graph.rank(data) - len(codes)
        sizes: list[int | _Dimensions] = [
            _Dimensions(index + offset) if code == _SAME else code
            for index, code in enumerate(codes)
        ]
    else:
        sizes = _sizes(codes, graph.rank(data))
    return graph.add("Reshape", data, _shape(graph, data, sizes))


def _sizes(codes: Sequence[int], rank: int) -> list[int | _Dimensions]:
    sizes: list[int | _Dimensions] = []
    left = list(codes)
    position = 0  # among the dimensions of the input
    while left:
        code = left.pop(0)
        if code == _ALL_OTHERS:
            sizes += [_Dimensions(index) for index in range(position, rank)]
            position = rank
        elif code == _TWO_TOGETHER:
            sizes.append(_Dimensions(position, 2))
            position += 2
        elif code == _TWO_OF_ONE:
            if len(left) < 2:
                raise InvalidArgument("its shape ends behind -4")
            sizes += _split(left.pop(0), left.pop(0), position)
            position += 1
        else:
            sizes.append(_Dimensions(position) if code == _SAME else code)
            position += 1
    return sizes


def _split(left: int, right: int, position: int) -> list[int | _Dimensions]:
    """Two sizes that make up the dimension, of which one may be -1."""
    if left > 0 and right == _REST:
        return [left, _Dimensions(position, 1, left)]
    if left == _REST and right > 0:
        return [_Dimensions(position, 1, right), right]
    if left > 0 and right > 0:
        return [left, right]
    raise InvalidArgument(f"its shape can not have {left} and {right} behind -4")


def _shape(graph: GraphBuilder, data: str, sizes: Sequence[int | _Dimensions]) -> str:
    """What is known is constant, so that shapes behind can be told."""
    known = graph.shape(data)
    constant = [_constant(size, known) for size in sizes]
    if constant.count(None) + constant.count(_REST) < 2:
        return integers(graph, [_REST if size is None else size for size in constant])
    parts = [
        _in_the_run(graph, data, size) if found is None else integers(graph, [found])
        for size, found in zip(sizes, constant, strict=True)
    ]
    return graph.add("Concat", *parts, axis=0)


def _constant(size: int | _Dimensions, known: Sequence[int | None] | None) -> int | None:
    if isinstance(size, int):
        return size
    product = 1
    for index in range(size.first, size.first + size.count):
        if known is None or not 0 <= index < len(known):
            raise InvalidArgument("its shape has more dimensions than the input")
        found = known[index]
        if found is None:
            return None
        product *= found
    return product // size.divisor


def _in_the_run(graph: GraphBuilder, data: str, size: int | _Dimensions) -> str:
    assert isinstance(size, _Dimensions)
    indices = integers(graph, range(size.first, size.first + size.count))
    dimensions = graph.add("Gather", graph.add("Shape", data), indices, axis=0)
    product = graph.add("ReduceProd", dimensions, axes=[0], keepdims=1)
    return graph.add("Div", product, graph.constant(np.array([size.divisor], np.int64)))
