"""CNTK's functions of each element, and what passes values on or moves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from onnx import TensorProto

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.loaders.cntk_operator import ALL_STATIC, END, Operator, Value, Writer
from serving.loaders.onnx_builder import element_type

_REDUCTIONS = {
    "Sum": "ReduceSum",
    "Mean": "ReduceMean",
    "Max": "ReduceMax",
    "Min": "ReduceMin",
    "Prod": "ReduceProd",
    "LogSum": "ReduceLogSumExp",
}


def unary(op_type: str) -> Writer:
    """ONNX's operator of one input."""
    return lambda operator: operator.add(op_type, operator.input(0).name)


def binary(op_type: str) -> Writer:
    """ONNX's operator of two, whose samples are broadcast."""
    return lambda operator: operator.add(op_type, *_broadcast(operator, 2))


def comparison(op_type: str) -> Writer:
    """Ones and zeros, as the inputs are."""
    return _comparison(op_type, negated=False)


def negated_comparison(op_type: str) -> Writer:
    """The opposite."""
    return _comparison(op_type, negated=True)


def _comparison(op_type: str, *, negated: bool) -> Writer:
    def write(operator: Operator) -> str:
        a, b = _broadcast(operator, 2)
        found = operator.add(op_type, a, b)
        found = operator.add("Not", found) if negated else found
        return operator.add("Cast", found, to=element_type(operator.graph.dtype(a)))

    return write


def passed_on(operator: Operator) -> str:
    """What does nothing when predicting."""
    return operator.input(0).name


def clip(operator: Operator) -> str:
    """X between two limits."""
    x, low, high = _broadcast(operator, 3)
    return operator.add("Min", operator.add("Max", x, low), high)


def select(operator: Operator) -> str:
    """The second input where the first is not 0, the third elsewhere."""
    condition, yes, no = _broadcast(operator, 3)
    return operator.add("Where", operator.add("Cast", condition, to=TensorProto.BOOL), yes, no)


def flat(op_type: str) -> Writer:
    """Over all elements of each sample, which is what CNTK does where no axis is said."""

    def write(operator: Operator) -> str:
        x = operator.input(0)
        return operator.add(op_type, x.name, axis=int(x.is_batch))

    return write


def reduce(operator: Operator) -> str:
    """Of one dimension, some of them or all of a sample."""
    x, attributes = operator.input(0), operator.attributes
    name = attributes.text("reductionOpName")
    if name not in _REDUCTIONS:
        raise FailedPrecondition(f"the reduction {name} is not supported")
    listed = attributes.axes("axisVec") if "axisVec" in attributes else [attributes.axis("axis")]
    if [axis.static_axis_idx for axis in listed] == [ALL_STATIC]:
        axes = list(range(x.is_batch, operator.graph.rank(x.name)))
    else:
        axes = [operator.dimension(axis, x) for axis in listed]
    kept = attributes.flag("reductionKeepDimensions", True)
    return operator.add(_REDUCTIONS[name], x.name, axes=sorted(axes), keepdims=int(kept))


def reshape(operator: Operator) -> str:
    """Some dimensions of a sample, or all, as others."""
    x, attributes = operator.input(0), operator.attributes
    sizes = list(operator.known_sample(x))
    rank = len(sizes)
    first = attributes.axis("beginAxis").static_axis_idx if "beginAxis" in attributes else 0
    last = attributes.axis("endAxis").static_axis_idx if "endAxis" in attributes else END
    first = first + rank if first < 0 else first
    last = rank if last == END else last + rank if last < 0 else last
    if not 0 <= first <= last <= rank:
        raise InvalidArgument(f"there are no axes {first} to {last} of {rank}")
    new = [-1 if size is None else size for size in attributes.sizes("newShape")]
    made = [*sizes[: rank - last], *new, *sizes[rank - first :]]
    if -1 not in made and prod(made) != prod(sizes):
        raise InvalidArgument(f"samples of {sizes} can not become {made}")
    return operator.reshaped(x, *made)


def transpose(operator: Operator) -> str:
    """Two dimensions in each other's place."""
    x = operator.input(0)
    a, b = (operator.dimension(operator.attributes.axis(name), x) for name in ("axis1", "axis2"))
    order = list(range(operator.graph.rank(x.name)))
    order[a], order[b] = order[b], order[a]
    return operator.add("Transpose", x.name, perm=order)


def splice(operator: Operator) -> str:
    """All inputs behind each other."""
    if len({each.is_batch for each in operator.inputs}) != 1:
        raise FailedPrecondition("batches and what is none can not be joined here")
    axis = operator.dimension(operator.attributes.axis("axis"), operator.input(0))
    return operator.add("Concat", *(each.name for each in operator.inputs), axis=axis)


def slice_(operator: Operator) -> str:
    """A part of one dimension or of several."""
    x, attributes, graph = operator.input(0), operator.attributes, operator.graph
    if "axisVec" in attributes:
        axes = attributes.axes("axisVec")
        begins, ends = attributes.integers("beginIndexVec"), attributes.integers("endIndexVec")
    else:
        axes = [attributes.axis("axis")]
        begins, ends = [attributes.integer("beginIndex")], [attributes.integer("endIndex")]
    if any(step != 1 for step in _steps(operator)):
        raise FailedPrecondition("steps other than 1 are not supported")
    dimensions = [operator.dimension(axis, x) for axis in axes]
    to = [2**31 - 1 if end == 0 else end for end in ends]
    return operator.add("Slice", x.name, *map(graph.constant, (begins, to, dimensions)))


def _steps(operator: Operator) -> Sequence[int]:
    attributes = operator.attributes
    if "sliceStridesVec" in attributes:
        return attributes.integers("sliceStridesVec")
    return [attributes.integer("sliceStrides", 1)]


def elu(operator: Operator) -> str:
    """With its ``alpha``."""
    alpha = operator.attributes.number("alpha", 1.0)
    return operator.add("Elu", operator.input(0).name, alpha=alpha)


def _broadcast(operator: Operator, count: int) -> Sequence[str]:
    """The inputs, so that numpy's rules broadcast samples over samples."""
    values = [operator.input(index) for index in range(count)]
    rank = max(map(operator.rank, values))
    return [_of_rank(operator, value, rank) for value in values]


def _of_rank(operator: Operator, value: Value, rank: int) -> str:
    missing = rank - operator.rank(value)
    if not value.is_batch or not missing:
        return value.name
    return operator.add("Unsqueeze", value.name, axes=list(range(1, 1 + missing)))


_UNARY = {
    0: "Neg",
    1: "Sigmoid",
    2: "Tanh",
    3: "Relu",
    4: "Exp",
    5: "Log",
    6: "Sqrt",
    7: "Floor",
    8: "Abs",
    9: "Reciprocal",
    54: "Sin",
    55: "Cos",
    75: "Sigmoid",
}
_PASSED_ON = (15, 50, 56, 62, 64)  # Dropout, ReconcileDynamicAxis, Pass, NoOp, StopGradient

WRITERS: dict[int, Callable[[Operator], str]] = {
    **{number: unary(op_type) for number, op_type in _UNARY.items()},
    **dict.fromkeys(_PASSED_ON, passed_on),
    10: flat("Softmax"),
    11: flat("Hardmax"),
    12: transpose,
    14: slice_,
    16: reshape,
    19: binary("Add"),
    20: binary("Sub"),
    21: binary("Mul"),
    22: comparison("Equal"),
    23: negated_comparison("Equal"),
    24: comparison("Less"),
    25: negated_comparison("Greater"),
    26: comparison("Greater"),
    27: negated_comparison("Less"),
    39: reduce,
    41: clip,
    42: select,
    43: splice,
    51: flat("LogSoftmax"),
    65: elu,
    69: binary("Pow"),
}
"""By CNTK's numbers of functions."""
