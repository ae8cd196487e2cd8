"""Operators that compute each element from the elements at its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_layers import gelu
from serving.loaders.mxnet_operator import Operation, Operator, cast, scalar
from serving.loaders.onnx_builder import GraphBuilder, divided

_Two = Callable[[GraphBuilder, str, str], str]


def _of_one(op_type: str) -> Operator:
    return lambda op: op.graph.add(op_type, op.inputs[0])


_UNARY = {
    "abs": "Abs",
    "arccos": "Acos",
    "arccosh": "Acosh",
    "arcsin": "Asin",
    "arcsinh": "Asinh",
    "arctan": "Atan",
    "arctanh": "Atanh",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "softsign": "Softsign",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}


def _square(op: Operation) -> str:
    return op.graph.add("Mul", op.inputs[0], op.inputs[0])


def _rsqrt(op: Operation) -> str:
    return op.graph.add("Reciprocal", op.graph.add("Sqrt", op.inputs[0]))


def _log1p(op: Operation) -> str:
    return op.graph.add("Log", op.graph.add("Add", op.inputs[0], scalar(op.graph, op.inputs[0], 1)))


def _expm1(op: Operation) -> str:
    return op.graph.add("Sub", op.graph.add("Exp", op.inputs[0]), scalar(op.graph, op.inputs[0], 1))


def _log_to(base: float) -> Operator:
    def logarithm(op: Operation) -> str:
        natural = op.graph.add("Log", op.inputs[0])
        return op.graph.add("Div", natural, scalar(op.graph, natural, math.log(base)))

    return logarithm


def _fix(op: Operation) -> str:
    return _with_sign(
        op.graph, op.inputs[0], op.graph.add("Floor", op.graph.add("Abs", op.inputs[0]))
    )


def _round(op: Operation) -> str:
    """Halves go away from zero, where ONNX's Round takes the even number."""
    more = op.graph.add(
        "Add", op.graph.add("Abs", op.inputs[0]), scalar(op.graph, op.inputs[0], 0.5)
    )
    return _with_sign(op.graph, op.inputs[0], op.graph.add("Floor", more))


def _with_sign(graph: GraphBuilder, data: str, size: str) -> str:
    return graph.add("Mul", graph.add("Sign", data), size)


def _hard_sigmoid(op: Operation) -> str:
    return op.graph.add(
        "HardSigmoid",
        op.inputs[0],
        alpha=op.attributes.number("alpha", 0.2),
        beta=op.attributes.number("beta", 0.5),
    )


def _gelu(op: Operation) -> str:
    return gelu(op.graph, op.inputs[0])


def _logical_not(op: Operation) -> str:
    return _equal(op.graph, op.inputs[0], scalar(op.graph, op.inputs[0], 0))


def _cast(op: Operation) -> str:
    return cast(op.graph, op.inputs[0], op.attributes.dtype("dtype", ""))


def _clip(op: Operation) -> str:
    bounds = [
        scalar(op.graph, op.inputs[0], op.attributes.number(end, 0)) for end in ("a_min", "a_max")
    ]
    return op.graph.add("Clip", op.inputs[0], *bounds)


def _where(op: Operation) -> str:
    condition, *values = op.inputs
    chosen = condition
    if op.graph.dtype(condition) != np.bool_:
        zero = scalar(op.graph, condition, 0)
        chosen = op.graph.add("Not", op.graph.add("Equal", condition, zero))
    return op.graph.add("Where", chosen, *values)


def _sum_of_all(op: Operation) -> str:
    return op.graph.add("Sum", *op.inputs)


def _filled_like(value: float) -> Operator:
    def filled(op: Operation) -> str:
        array = np.array([value], op.graph.dtype(op.inputs[0]))
        shape = op.graph.add("Shape", op.inputs[0])
        return op.graph.add("Expand", op.graph.constant(array), shape)

    return filled


def _plain(op_type: str) -> _Two:
    return lambda graph, left, right: graph.add(op_type, left, right)


def _modulo(graph: GraphBuilder, left: str, right: str) -> str:
    """With the sign of the divisor, as in Python."""
    times = graph.add("Div", left, right)
    if graph.dtype(left).kind != "f":
        raise InvalidArgument("it can not be served for integers")
    return graph.add("Sub", left, graph.add("Mul", graph.add("Floor", times), right))


def _hypot(graph: GraphBuilder, left: str, right: str) -> str:
    squares = [graph.add("Mul", each, each) for each in (left, right)]
    return graph.add("Sqrt", graph.add("Add", *squares))


def _comparison(op_type: str, negated: bool = False) -> _Two:
    """Answers 1 and 0 in the type of what is compared."""

    def compare(graph: GraphBuilder, left: str, right: str) -> str:
        truth = graph.add(op_type, left, right)
        return cast(graph, graph.add("Not", truth) if negated else truth, graph.dtype(left))

    return compare


_equal = _comparison("Equal")


def _logical(op_type: str) -> _Two:
    def combine(graph: GraphBuilder, left: str, right: str) -> str:
        truths = [cast(graph, each, np.bool_) for each in (left, right)]
        return cast(graph, graph.add(op_type, *truths), graph.dtype(left))

    return combine


_BINARY: Mapping[str, _Two] = {
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "div": divided,
    "power": _plain("Pow"),
    "maximum": _plain("Max"),
    "minimum": _plain("Min"),
    "mod": _modulo,
    "hypot": _hypot,
    "equal": _equal,
    "not_equal": _comparison("Equal", negated=True),
    "greater": _comparison("Greater"),
    "greater_equal": _comparison("GreaterOrEqual"),
    "lesser": _comparison("Less"),
    "lesser_equal": _comparison("LessOrEqual"),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_xor": _logical("Xor"),
}

_OTHER_NAMES = {
    "add": ("elemwise_add", "_plus", "_Plus", "_add", "_grad_add", "broadcast_plus"),
    "sub": ("elemwise_sub", "_minus", "_Minus", "_sub", "broadcast_minus"),
    "mul": ("elemwise_mul", "_mul", "_Mul"),
    "div": ("elemwise_div", "_div", "_Div"),
    "power": ("_Power", "pow"),
    "maximum": ("_Maximum",),
    "minimum": ("_Minimum",),
    "mod": ("_Mod",),
}

_SCALAR_NAMES: Mapping[str, tuple[str, bool]] = {
    "_PlusScalar": ("add", False),
    "_plus_scalar": ("add", False),
    "_MinusScalar": ("sub", False),
    "_minus_scalar": ("sub", False),
    "_RMinusScalar": ("sub", True),
    "_rminus_scalar": ("sub", True),
    "_MulScalar": ("mul", False),
    "_mul_scalar": ("mul", False),
    "_DivScalar": ("div", False),
    "_div_scalar": ("div", False),
    "_RDivScalar": ("div", True),
    "_rdiv_scalar": ("div", True),
    "_PowerScalar": ("power", False),
    "_power_scalar": ("power", False),
    "_RPowerScalar": ("power", True),
    "_rpower_scalar": ("power", True),
    "_MaximumScalar": ("maximum", False),
    "_MinimumScalar": ("minimum", False),
    "_ModScalar": ("mod", False),
    "_rmod_scalar": ("mod", True),
    "_RModScalar": ("mod", True),
    "_HypotScalar": ("hypot", False),
} | {
    f"_{name}_scalar": (name, False)
    for name in _BINARY
    if name not in ("add", "sub", "mul", "div", "power")
}
"""What each computes with a number, and whether the number comes first."""


def _of_two(function: _Two) -> Operator:
    return lambda op: function(op.graph, op.inputs[0], op.inputs[1])


def _with_number(function: _Two, number_first: bool) -> Operator:
    def operator(op: Operation) -> str:
        data, number = (
            op.inputs[0],
            scalar(op.graph, op.inputs[0], op.attributes.number("scalar", 0)),
        )
        return (
            function(op.graph, number, data) if number_first else function(op.graph, data, number)
        )

    return operator


def _filled(value: float | None) -> Operator:
    """The constants; without a value, the one that the attribute says."""
    most = 2**24  # elements: weights come from files, so larger ones are a mistake, or meant badly
    most_dimensions = 32

    def operator(op: Operation) -> str:
        shape = op.attributes.integers("shape")
        if len(shape) > most_dimensions:
            raise InvalidArgument(f"its shape can not have {len(shape)} dimensions")
        if any(size < 1 for size in shape) or math.prod(shape) > most:
            raise InvalidArgument(f"its shape can not be {list(shape)}")
        number = op.attributes.number("value", 0) if value is None else value
        dtype = np.dtype(op.attributes.dtype("dtype", "float32"))
        if dtype.kind in "iub":
            if number != int(number):
                raise InvalidArgument(f"{number} is no {dtype.name}")
            number = int(number)  # of which numpy tells where it is out of range
        return op.graph.constant(np.full(shape, number, dtype))

    return operator


ELEMENTWISE: Mapping[str, Operator] = {
    **{name: _of_one(op_type) for name, op_type in _UNARY.items()},
    **{f"broadcast_{name}": _of_two(function) for name, function in _BINARY.items()},
    **{f"_{name}": _of_two(function) for name, function in _BINARY.items()},
    **{other: _of_two(_BINARY[name]) for name, others in _OTHER_NAMES.items() for other in others},
    **{
        name: _with_number(_BINARY[function], first)
        for name, (function, first) in _SCALAR_NAMES.items()
    },
    "Cast": _cast,
    "ElementWiseSum": _sum_of_all,
    "_contrib_gelu": _gelu,
    "_full": _filled(None),
    "_ones": _filled(1),
    "_zeros": _filled(0),
    "add_n": _sum_of_all,
    "cast": _cast,
    "clip": _clip,
    "expm1": _expm1,
    "fix": _fix,
    "hard_sigmoid": _hard_sigmoid,
    "log10": _log_to(10),
    "log1p": _log1p,
    "log2": _log_to(2),
    "logical_not": _logical_not,
    "ones_like": _filled_like(1),
    "round": _round,
    "rsqrt": _rsqrt,
    "square": _square,
    "trunc": _fix,
    "where": _where,
    "zeros_like": _filled_like(0),
}
