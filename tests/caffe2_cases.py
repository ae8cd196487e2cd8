"""Small nets of every operator of Caffe2 that is read, and what Caffe2 answers to each.

The answers in caffe2_answers.json are those of Caffe2 itself, as it is in libtorch 1.7.1, which ran
these nets on these inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from caffe2_models import operator

from serving.generated.caffe2_net_pb2 import OperatorDef

ANSWERS = Path(__file__).parent / "caffe2_answers.json"


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Floats between -2 and 2 with few digits, the same on every machine."""
    count = int(np.prod(shape))
    steps = (np.arange(count) * (37 + 2 * seed) + 11 * seed) % 101
    return ((steps - 50) / 25).astype(np.float32).reshape(shape)


@dataclass(frozen=True)
class OperatorCase:
    """Operators that make ``outputs`` of x (and other inputs) and weights."""

    id: str
    operators: Sequence[OperatorDef]
    inputs: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    outputs: Sequence[str] = ("y",)

    def answers(self) -> Mapping[str, np.ndarray]:
        """What Caffe2 answered."""
        written = json.loads(ANSWERS.read_text())[self.id]
        return {
            name: np.array(values, dtype).reshape(shape)
            for name, (dtype, shape, values) in written.items()
        }


IMAGE = numbers(2, 4, 7, 6)
ROWS = numbers(3, 4)
POSITIVE = np.abs(ROWS) + np.float32(0.5)
CHANNELS = {f"c{index}": numbers(4, seed=index) for index in range(3)} | {
    "c3": np.abs(numbers(4, seed=3)) + np.float32(0.5)
}
FILTER = {"w": numbers(6, 4, 3, 2, seed=1), "b": numbers(6, seed=2)}
GROUPED = {"w": numbers(6, 2, 3, 2, seed=1), "b": numbers(6, seed=2)}
UP = {"w": numbers(4, 3, 3, 2, seed=1), "b": numbers(3, seed=2)}


def image(
    name: str, op_type: str, weights: Mapping[str, np.ndarray] | None = None, **arguments: object
) -> OperatorCase:
    """An operator on an image and weights in order."""
    weights = weights or {}
    made = operator(op_type, ["x", *weights], ["y"], **arguments)
    return OperatorCase(f"{op_type}-{name}", [made], {"x": IMAGE}, weights)


def rows(
    name: str,
    op_type: str,
    x: np.ndarray = ROWS,
    weights: Mapping[str, np.ndarray] | None = None,
    outputs: Sequence[str] = ("y",),
    **arguments: object,
) -> OperatorCase:
    """An operator on a matrix, or what ``x`` is, and weights in order."""
    weights = weights or {}
    made = operator(op_type, ["x", *weights], outputs, **arguments)
    return OperatorCase(f"{op_type}-{name}", [made], {"x": x}, weights, outputs)


def last(array: np.ndarray) -> np.ndarray:
    """[rows, channels, …] as [rows, …, channels]."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


ELEMENT_WISE = (
    *("Relu", "Sigmoid", "Tanh", "Selu", "Elu", "LeakyRelu", "Swish", "Softplus", "Softsign"),
    *("Exp", "Abs", "Negative", "Sign", "Sin", "Cos", "Floor", "Ceil", "Sqr", "Cube"),
    *("Clip", "Scale", "Normalize"),
    *("Copy", "StopGradient", "Alias", "EnsureCPUOutput"),
)

NET = OperatorCase(
    "net",
    [
        operator("Conv", ["x", "w", "b"], ["conv"], kernels=[3, 2], pad=1),
        operator("Relu", ["conv"], ["conv"]),
        operator("MaxPool", ["conv"], ["pool"], kernel=3, stride=2, legacy_pad=3),
        operator("Dropout", ["pool"], ["pool", "mask"], is_test=1),
        operator("FC", ["pool", "v", "c"], ["scores"]),
        operator("Softmax", ["scores"], ["softmax"]),
    ],
    {"x": IMAGE},
    FILTER | {"v": numbers(3, 54, seed=1) / 8, "c": numbers(3, seed=2)},
    ("softmax", "scores"),
)
"""As exporters write them: blobs that are written twice, two outputs."""

CASES = [
    NET,
    image("plain", "Conv", FILTER, kernels=[3, 2]),
    image("no-bias", "Conv", {"w": FILTER["w"]}, kernel_h=3, kernel_w=2),
    image("steps", "Conv", FILTER, kernels=[3, 2], strides=[2, 1], pads=[1, 0, 2, 1]),
    image("sides", "Conv", FILTER, kernels=[3, 2], pad_t=1, pad_l=0, pad_b=2, pad_r=1, stride=2),
    image("gaps", "Conv", FILTER, kernels=[3, 2], dilation=2, pad=1),
    image("groups", "Conv", GROUPED, kernels=[3, 2], group=2),
    image("same", "Conv", FILTER, kernels=[3, 2], legacy_pad=2, stride_h=2, stride_w=3),
    image("valid", "Conv", FILTER, kernels=[3, 2], legacy_pad=1),
    OperatorCase(
        "Conv-channels-last",
        [operator("Conv", ["x", "w", "b"], ["y"], kernels=[3, 2], order="NHWC", pad=1)],
        {"x": last(IMAGE)},
        {"w": last(FILTER["w"]), "b": FILTER["b"]},
    ),
    OperatorCase(
        "Conv-one-dimension",
        [operator("Conv", ["x", "w", "b"], ["y"], kernels=[3], pads=[1, 0], strides=[2])],
        {"x": numbers(2, 4, 7)},
        {"w": numbers(6, 4, 3, seed=1), "b": FILTER["b"]},
    ),
    image("plain", "ConvTranspose", UP, kernels=[3, 2]),
    image("steps", "ConvTranspose", UP, kernels=[3, 2], stride=2, pad=1, adj=1),
    image("plain", "MaxPool", kernel=2, stride=2),
    image("padded", "MaxPool", kernel=3, stride=2, pad=1),
    image("caffe", "MaxPool", kernel=3, stride=2, legacy_pad=3),
    image("caffe-padded", "MaxPool", kernel=3, stride=2, pad=1, legacy_pad=3),
    image("caffe-padded-wide", "MaxPool", kernel=2, stride=3, pad=1, legacy_pad=3),
    image("same", "MaxPool", kernel=3, stride=2, legacy_pad=2),
    image("global", "MaxPool", global_pooling=1),
    image("plain", "AveragePool", kernel=3, stride=2),
    image("padded", "AveragePool", kernel=3, stride=2, pad=1),
    image("all-pixels", "AveragePool", kernel=3, stride=2, pad=1, count_include_pad=1),
    image("caffe", "AveragePool", kernel=3, stride=2, legacy_pad=3),
    image("caffe-padded", "AveragePool", kernel=3, stride=2, pad=1, legacy_pad=3),
    image("global", "AveragePool", global_pooling=1),
    OperatorCase(
        "AveragePool-channels-last",
        [operator("AveragePool", ["x"], ["y"], kernel=3, stride=2, order="NHWC")],
        {"x": last(IMAGE)},
    ),
    image("plain", "SpatialBN", CHANNELS, is_test=1, epsilon=0.01),
    OperatorCase(
        "SpatialBN-channels-last",
        [operator("SpatialBN", ["x", *CHANNELS], ["y"], is_test=1, order="NHWC")],
        {"x": last(IMAGE)},
        CHANNELS,
    ),
    rows("matrix", "SpatialBN", weights=CHANNELS, is_test=1),
    image("plain", "InstanceNorm", {"s": CHANNELS["c0"], "b": CHANNELS["c1"]}, epsilon=0.01),
    image("plain", "LRN", size=3, alpha=0.5, beta=0.75, bias=2.0),
    image("one-slope", "PRelu", {"s": numbers(1, seed=3)}),
    image("slopes", "PRelu", {"s": numbers(4, seed=3)}),
    rows("rows", "PRelu", weights={"s": numbers(4, seed=3)}),
    image("image", "Softmax"),
    image("axis", "Softmax", axis=2),
    rows("rows", "Softmax"),
    rows("plain", "FC", weights={"w": numbers(5, 4, seed=1), "b": numbers(5, seed=2)}),
    image("image", "FC", {"w": numbers(5, 168, seed=1), "b": numbers(5, seed=2)}),
    image("axis", "FC", {"w": numbers(5, 42, seed=1), "b": numbers(5, seed=2)}, axis=2),
    image("folded", "FC", {"w": numbers(5, 6, 28, seed=1), "b": numbers(5, seed=2)}),
    rows("plain", "FCTransposed", weights={"w": numbers(4, 5, seed=1), "b": numbers(5, seed=2)}),
    rows("plain", "MatMul", weights={"w": numbers(4, 5, seed=1)}),
    rows("transposed", "MatMul", weights={"w": numbers(5, 3, seed=1)}, trans_a=1, trans_b=1),
    rows("plain", "BatchMatMul", numbers(2, 3, 4), {"w": numbers(2, 4, 5, seed=1)}),
    rows("transposed", "BatchMatMul", numbers(2, 3, 4), {"w": numbers(2, 5, 4)}, trans_b=1),
    *(rows("plain", name) for name in ELEMENT_WISE),
    *(rows("plain", name, POSITIVE) for name in ("Log", "Sqrt", "Rsqrt")),
    rows("set", "LeakyRelu", alpha=0.3),
    rows("set", "Elu", alpha=0.3),
    rows("set", "Selu", alpha=1.5, scale=1.2),
    rows("set", "Clip", min=-0.5, max=0.7),
    rows("set", "Scale", scale=3.0),
    rows("axis", "Normalize", axis=0),
    rows("exponent", "Pow", POSITIVE, exponent=2.5),
    rows("weight", "Pow", POSITIVE, {"e": numbers(4, seed=1)}, broadcast=1),
    *(
        rows("rows", name, weights={"b": numbers(3, 4, seed=1)})
        for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "LT", "GE", "EQ")
    ),
    rows("end", "Add", weights={"b": numbers(4, seed=1)}, broadcast=1),
    rows("one", "Mul", weights={"b": numbers(1, seed=1)}, broadcast=1),
    image("channels", "Mul", {"b": numbers(4, seed=1)}, broadcast=1, axis=1),
    image("middle", "Add", {"b": numbers(4, 7, seed=1)}, broadcast=1, axis=1),
    image("letter", "Sub", {"b": numbers(4, seed=1)}, broadcast=1, axis_str="C"),
    image("newer", "Add", {"b": numbers(4, 1, 1, seed=1)}),
    rows("sizes", "Concat", weights={"b": numbers(3, 2, seed=1)}, outputs=["y", "sizes"]),
    rows("rows", "Concat", weights={"b": numbers(2, 4)}, outputs=["y", "sizes"], axis=0),
    rows("new", "Concat", weights={"b": ROWS}, outputs=["y", "sizes"], axis=1, add_axis=1),
    OperatorCase(
        "Concat-channels-last",
        [operator("Concat", ["x", "x"], ["y", "sizes"], order="NHWC")],
        {"x": IMAGE},
        outputs=["y", "sizes"],
    ),
    rows("equal", "Split", outputs=["y", "z"], axis=1),
    rows("sizes", "Split", outputs=["y", "z"], axis=1, split=[1, 3]),
    rows("weight", "Split", weights={"s": np.array([3, 1], np.int32)}, outputs=["y", "z"], axis=1),
    rows("ends", "Slice", starts=[0, 1], ends=[-1, -2]),
    rows("starts", "Slice", starts=[0, -3], ends=[-1, -1]),
    rows("plain", "Reshape", outputs=["y", "before"], shape=[-1, 2]),
    rows("kept", "Reshape", outputs=["y", "before"], shape=[0, 2, 2]),
    image("plain", "Flatten"),
    image("axis", "Flatten", axis=2),
    image("plain", "FlattenToVec"),
    rows("plain", "Transpose"),
    image("axes", "Transpose", axes=[0, 2, 3, 1]),
    image("plain", "NCHW2NHWC"),
    image("plain", "NHWC2NCHW"),
    rows("plain", "ExpandDims", dims=[0, 2]),
    rows("plain", "Squeeze", numbers(3, 1, 4, 1), dims=[1, 3]),
    image("plain", "Shape"),
    image("axes", "Shape", axes=[2, 0]),
    rows("number", "Cast", to=2),
    rows("name", "Cast", to="int64"),
    rows("plain", "Gather", weights={"i": np.array([2, 0, 2], np.int32)}),
    rows("plain", "BatchGather", weights={"i": np.array([2, 0, 2], np.int32)}),
    rows("plain", "Tile", tiles=3, axis=1),
    image("constant", "PadImage", pad_t=1, pad_l=2, pad_b=0, pad_r=1, value=0.5),
    image("reflect", "PadImage", pad=1, mode="reflect"),
    image("edge", "PadImage", pad=1, mode="edge"),
    image("larger", "ResizeNearest", height_scale=2.0, width_scale=3.0),
    image("smaller", "ResizeNearest", height_scale=0.5, width_scale=0.75),
    image("plain", "ChannelShuffle", group=2, kernel=1),
    rows("plain", "ArgMax"),
    rows("axis", "ArgMin", axis=0, keepdims=0),
    rows("plain", "TopK", outputs=["y", "places"], k=2),
    *(rows("all", f"Reduce{name}") for name in ("Sum", "Mean", "Max", "Min", "L1", "L2")),
    rows("axes", "ReduceMean", axes=[1], keepdims=0),
    OperatorCase(
        "Dropout-test",
        [operator("Dropout", ["x"], ["y", "mask"], is_test=1)],
        {"x": ROWS},
    ),
]
