"""Small models of the functions of CNTK that are read, and what CNTK answers to each.

The answers in cntk_answers.json are those of CNTK 2.7 itself, whose library loaded these models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from caffe2_cases import numbers
from cntk_models import Shape, axis, content, function, model, signed, variable, weight

ANSWERS = Path(__file__).parent / "cntk_answers.json"
ALL_STATIC = 2**31 - 2


@dataclass(frozen=True)
class CntkCase:
    """Functions that make outputs of x, whose rows are ``x``, and weights; the last is the root.

    ``arguments`` are the sizes of those that blocks have.
    """

    id: str
    functions: Sequence[Mapping[str, Any]]
    x: np.ndarray
    weights: Mapping[str, np.ndarray]
    arguments: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def content(self) -> bytes:
        variables = [variable("x", self.x.shape[1:])]
        variables += [weight(uid, values) for uid, values in self.weights.items()]
        variables += [variable(uid, sizes, 4) for uid, sizes in self.arguments.items()]
        return content(model(self.functions[-1]["uid"], self.functions, variables))

    def answers(self) -> Mapping[str, np.ndarray]:
        """What CNTK answered, by the names that outputs have here."""
        written = json.loads(ANSWERS.read_text())[self.id]
        return {
            name: np.array(values, np.float32).reshape(shape)
            for name, (shape, values) in written.items()
        }


ROWS, IMAGE = numbers(2, 4), numbers(2, 3, 7, 6)
POSITIVE = np.abs(ROWS) + np.float32(0.5)
CHANNELS = {name: numbers(3, seed=seed) for seed, name in enumerate("sbm")} | {
    "v": np.abs(numbers(3, seed=3)) + np.float32(0.5),
    "n": np.ones((), np.float32),
}
ELEMENTS = {name: numbers(4, seed=seed) for seed, name in enumerate("sbm")} | {
    "v": POSITIVE[0],
    "n": np.ones((), np.float32),
}
FILTER = {"w": numbers(5, 3, 3, 2, seed=1)}


def one(
    name: str,
    op: int,
    x: np.ndarray = ROWS,
    weights: Mapping[str, np.ndarray] | None = None,
    inputs: Sequence[str] = (),
    **attributes: Any,
) -> CntkCase:
    """One function, of x and weights in order unless ``inputs`` says otherwise."""
    weights = weights or {}
    made = function("F1", op, inputs or ["x", *weights], "y", **attributes)
    return CntkCase(name, [made], x, weights)


def convolved(name: str, x: np.ndarray = IMAGE, **attributes: Any) -> CntkCase:
    steps = {"strides": Shape((1, 1, 3)), "sharing": [True], "dilation": Shape((1,))}
    pads = {"lowerPad": Shape((0,)), "upperPad": Shape((0,)), "autoPadding": [False]}
    rest = {"transpose": False, "outputShape": Shape((0,)), "maxTempMemSizeInSamples": 0}
    given = {**steps, **pads, **rest, "groups": 1, "sequential": False} | attributes
    return one(f"convolution {name}", 33, x, FILTER, ["w", "x"], **given)


def pooled(name: str, kind: int, **attributes: Any) -> CntkCase:
    given = {
        "poolingType": kind,
        "poolingWindowShape": Shape((2, 3)),
        "strides": Shape((2, 2)),
        "autoPadding": [False],
        "lowerPad": Shape((0,)),
        "upperPad": Shape((0,)),
        "ceilOutDim": False,
        "includePad": False,
    } | attributes
    return one(f"pooling {name}", 17, IMAGE, **given)


def normalized(name: str, x: np.ndarray, weights: Mapping[str, np.ndarray], spatial: bool):
    given = {"normalizationTimeConstant": 0.0, "blendTimeConstant": 0.0, "epsilon": 0.01}
    more = {"useCuDNNEngine": False, "disableRegularization": False, "runCountUntied": 0}
    return one(name, 40, x, weights, **given, **more, spatial=spatial)


def reduced(name: str, x: np.ndarray, index: int, kept: bool = True) -> CntkCase:
    given = {"reductionOpName": name, "reductionKeepDimensions": kept, "axis": axis(index)}
    return one(f"reduction {name} {index} {kept}", 39, x, **given)


def times(inputs: Sequence[str], uid: str = "F1", name: str = "y") -> Mapping[str, Any]:
    given = {"outputRank": 1, "inferInputRankToMap": signed(-1)}
    return function(uid, 31, inputs, name, **given)


def block(uid: str, root: str, inputs: Sequence[str], **inside: str) -> Mapping[str, Any]:
    """A block whose functions stand beside it; ``inside`` are its arguments."""
    key = "block_function_composite_arguments_map"
    composite = {**model(root, [], []), "uid": f"Composite of {uid}"}
    del composite["primitive_functions"], composite["inputs"], composite["state"]
    return function(uid, 57, inputs, "scores") | {
        "block_function_composite": composite,
        "block_function_op_name": "Dense",
        f"{key}_keys": list(inside),
        f"{key}_values": list(inside.values()),
    }


DENSE = {"w": numbers(126, 3, seed=1) / 8, "b": numbers(3, seed=2)}
NET = CntkCase(
    "network",
    [
        function("R", 3, ["x"]),
        times(["w", "R_Output_0"], "T", ""),
        function("P", 19, ["T_Output_0", "b"], "scores"),
        function("S", 10, ["P_Output_0"], "softmax"),
        function("D", 15, ["S_Output_0"], "dropped", dropoutRate=0.5, rngSeed=1, rngOffset=0),
        function("C", 44, ["P_Output_0", "D_Output_0"]),
    ],
    IMAGE,
    {"w": numbers(3, 7, 6, 3, seed=1) / 8, "b": DENSE["b"]},
)
"""Two outputs, and an image of which all dimensions are summed over."""

BLOCK = CntkCase(
    "block",
    [
        function("R", 3, ["x"]),
        times(["w", "a"], "T", ""),
        function("P", 19, ["T_Output_0", "b"]),
        block("B", "P", ["w", "b", "R_Output_0"], a="R_Output_0"),
    ],
    ROWS,
    {"w": DENSE["w"][:4], "b": DENSE["b"]},
    {"a": (4,)},
)
"""As CNTK saves its layers."""

CASES = [
    NET,
    BLOCK,
    *(one(f"unary {op}", op) for op in (0, 1, 2, 3, 4, 7, 8, 9, 54, 55, 64, 75)),
    *(one(f"unary {op}", op, POSITIVE) for op in (5, 6)),
    *(one(f"binary {op}", op, weights={"b": numbers(4, seed=1)}) for op in (19, 20, 21)),
    *(one(f"comparison {op}", op, weights={"b": ROWS[0]}) for op in range(22, 28)),
    one("channels", 19, IMAGE, {"b": numbers(3, 1, 1, seed=1)}),
    one("more dimensions", 19, weights={"b": numbers(3, 4, seed=1)}),
    one("power", 69, POSITIVE, {"b": numbers(4, seed=1)}),
    one("softmax", 10),
    one("log softmax", 51),
    one("hardmax", 11),
    one("elu", 65, alpha=1.0),
    one("clip", 41, weights={"l": np.array(-0.5, np.float32), "h": np.array(1, np.float32)}),
    one("select", 42, weights={"a": ROWS[0], "b": POSITIVE[0]}),
    one("times", 31, weights={"w": DENSE["w"][:4]}, inputs=["w", "x"], **times([])["attributes"]),
    one(
        "times of rows",
        31,
        numbers(2, 5, 4),
        {"w": DENSE["w"][:4]},
        ["w", "x"],
        **times([])["attributes"],
    ),
    convolved("plain"),
    convolved("padded", autoPadding=[True, True, False]),
    convolved("padded with steps", autoPadding=[True, True, False], strides=Shape((2, 2, 3))),
    convolved("padded with long steps", autoPadding=[True, True, False], strides=Shape((2, 3, 3))),
    convolved("sides", lowerPad=Shape((1, 0, 0)), upperPad=Shape((0, 2, 0))),
    pooled("max", 0),
    pooled("mean", 1),
    pooled("max padded", 0, autoPadding=[True, True]),
    pooled("mean padded", 1, autoPadding=[True, True]),
    pooled("mean padded and counted", 1, autoPadding=[True, True], includePad=True),
    normalized("normalization of channels", IMAGE, CHANNELS, True),
    normalized("normalization of elements", ROWS, ELEMENTS, False),
    *(reduced(name, IMAGE, 1) for name in ("Sum", "Mean", "Max", "Min", "LogSum")),
    reduced("Prod", ROWS, 0),
    reduced("Sum", IMAGE, -1),
    reduced("Sum", IMAGE, ALL_STATIC),
    one("reshape", 16, IMAGE, newShape=Shape((14, 9))),
    one(
        "reshape of some",
        16,
        IMAGE,
        newShape=Shape((2, 3)),
        beginAxis=axis(0),
        endAxis=axis(1),
    ),
    one("transposition", 12, IMAGE, axis1=axis(0), axis2=axis(2)),
    one("splice", 43, IMAGE, inputs=["x", "x"], axis=axis(1)),
    one("slice", 14, IMAGE, axis=axis(1), beginIndex=signed(1), endIndex=signed(-2)),
    one("slice to the end", 14, IMAGE, axis=axis(2), beginIndex=signed(1), endIndex=signed(0)),
]
