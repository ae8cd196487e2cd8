"""Each operator of MXNet that is converted computes what it computes in MXNet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serving.loaders.mxnet_onnx import mxnet_to_onnx

if find_spec("mxnet") is None:
    pytest.skip("mxnet is not installed", allow_module_level=True)

from mxnet_beside_numpy_2 import import_mxnet

mx = import_mxnet()
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what MXNet uses

PICTURES = (2, 4, 7, 6)
VALUES = (2, 3, 4)


@dataclass(frozen=True)
class OperatorCase:
    """``arguments`` are the operator's attributes; inputs beside the data are ``weights``, by the
    names that MXNet gives them, and ``others``, which are data too. ``low`` and ``high`` bound the
    random numbers.
    """

    operator: str
    shape: tuple[int, ...] = VALUES
    arguments: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    low: float = -2
    high: float = 2
    whole: bool = False
    data: str = "data"

    @property
    def id(self) -> str:
        return "-".join(
            [self.operator, *(f"{key}={value}" for key, value in self.arguments.items())]
        )


def op(operator: str, shape: tuple[int, ...] = VALUES, /, **arguments: Any) -> OperatorCase:
    return OperatorCase(operator, shape, arguments)


UNARY = [
    *("abs", "ceil", "cos", "cosh", "erf", "exp", "expm1", "fix", "floor", "hard_sigmoid"),
    *("identity", "logical_not", "negative", "ones_like", "reciprocal", "relu", "round"),
    *("shape_array", "sigmoid", "sign", "sin", "sinh", "size_array", "softsign", "square", "tan"),
    *(
        "tanh",
        "trunc",
        "zeros_like",
        "arctan",
        "arcsinh",
        "BlockGrad",
        "MakeLoss",
        "argmax_channel",
    ),
]
POSITIVE = ["log", "log10", "log1p", "log2", "rsqrt", "sqrt", "arccosh"]
SMALL = ["arccos", "arcsin", "arctanh"]
BROADCAST = [
    *("add", "sub", "mul", "div", "power", "maximum", "minimum", "mod", "hypot", "equal"),
    *("not_equal", "greater", "greater_equal", "lesser", "lesser_equal", "logical_and"),
    *("logical_or", "logical_xor"),
]
SCALAR = [
    *("plus", "minus", "rminus", "mul", "div", "rdiv", "maximum", "minimum", "mod", "rmod"),
    *("hypot", "equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal"),
    *("logical_and", "logical_or", "logical_xor"),
]
REDUCTIONS = ["sum", "mean", "max", "min", "prod", "norm", "argmax", "argmin"]

CASES = [
    *(op(name) for name in UNARY),
    *(OperatorCase(name, low=1.1, high=3) for name in POSITIVE),
    *(OperatorCase(name, low=-0.9, high=0.9) for name in SMALL),
    *(
        OperatorCase(
            f"broadcast_{name}", others={"rhs": (1, 3, 1)}, low=0, high=4, whole=True, data="lhs"
        )
        if name not in ("div", "mod", "power")
        else OperatorCase(f"broadcast_{name}", others={"rhs": (1, 3, 1)}, low=0.5, data="lhs")
        for name in BROADCAST
    ),
    *(
        OperatorCase(f"elemwise_{name}", others={"rhs": VALUES}, low=0.5, data="lhs")
        for name in ("add", "sub", "mul", "div")
    ),
    *(op(f"_{name}_scalar", scalar=1.5) for name in SCALAR),
    OperatorCase("_power_scalar", arguments={"scalar": 2.5}, low=0.5),
    op("_rpower_scalar", scalar=2.5),
    *(op(name, axis=1) for name in REDUCTIONS),
    *(op(name, axis=1, keepdims=True) for name in REDUCTIONS),
    *(op(name, axis=-1) for name in REDUCTIONS),
    *(op(name) for name in REDUCTIONS),
    *(op(name, axis=(0, 2)) for name in REDUCTIONS[:5]),
    *(op(name, axis=1, exclude=True) for name in REDUCTIONS[:5]),
    op("norm", ord=1, axis=2),
    op("clip", a_min=-0.5, a_max=1),
    op("Cast", dtype="int32"),
    op("Cast", dtype="float16"),
    op("Activation", act_type="relu"),
    op("Activation", act_type="sigmoid"),
    op("Activation", act_type="tanh"),
    op("Activation", act_type="softrelu"),
    op("Activation", act_type="softsign"),
    op("LeakyReLU", act_type="leaky", slope=0.1),
    op("LeakyReLU", act_type="elu", slope=0.3),
    op("LeakyReLU", act_type="selu"),
    op("LeakyReLU", act_type="gelu"),
    op("LeakyReLU", PICTURES, act_type="prelu"),
    op("FullyConnected", num_hidden=5),
    op("FullyConnected", num_hidden=5, no_bias=True),
    op("FullyConnected", num_hidden=5, flatten=False),
    op("FullyConnected", num_hidden=5, flatten=False, no_bias=True),
    op("Convolution", PICTURES, kernel=(3, 2), num_filter=6),
    op("Convolution", PICTURES, kernel=(3, 3), num_filter=6, stride=(2, 1), pad=(1, 2)),
    op("Convolution", PICTURES, kernel=(2, 2), num_filter=6, dilate=(2, 2), no_bias=True),
    op("Convolution", PICTURES, kernel=(3, 3), num_filter=4, num_group=2),
    op("Convolution", (2, 3, 9), kernel=(3,), num_filter=4),
    op("Convolution", (1, 2, 5, 6, 4), kernel=(3, 2, 2), num_filter=3),
    op("Deconvolution", PICTURES, kernel=(3, 3), num_filter=2),
    op("Deconvolution", PICTURES, kernel=(4, 4), num_filter=2, stride=(2, 2), pad=(1, 1)),
    op(
        "Deconvolution",
        PICTURES,
        kernel=(3, 3),
        num_filter=4,
        stride=(2, 2),
        adj=(1, 1),
        num_group=2,
    ),
    op("Deconvolution", PICTURES, kernel=(3, 3), num_filter=2, no_bias=False),
    *(
        op("Pooling", PICTURES, kernel=(3, 3), stride=(2, 2), pool_type=kind, pad=(1, 1))
        for kind in ("max", "avg", "sum")
    ),
    *(
        op(
            "Pooling",
            PICTURES,
            kernel=(3, 3),
            stride=(2, 2),
            pool_type=kind,
            pooling_convention="full",
        )
        for kind in ("max", "avg")
    ),
    *(
        op(
            "Pooling",
            (2, 4, 8, 8),
            kernel=(3, 3),
            stride=(2, 2),
            pad=(1, 1),
            pool_type="avg",
            pooling_convention="full",
            count_include_pad=counted,
        )
        for counted in (True, False)
    ),
    op("Pooling", PICTURES, kernel=(2, 2), pool_type="avg", pad=(1, 1), count_include_pad=False),
    op("Pooling", PICTURES, kernel=(2, 2), pool_type="max"),
    op("Pooling", PICTURES, kernel=(2, 2), pool_type="lp", p_value=2),
    op("Pooling", (2, 3, 9), kernel=(2,), pool_type="max"),
    *(op("Pooling", PICTURES, global_pool=True, pool_type=kind) for kind in ("max", "avg", "sum")),
    op("_contrib_AdaptiveAvgPooling2D", PICTURES, output_size=1),
    OperatorCase(
        "UpSampling",
        PICTURES,
        {"scale": 2, "sample_type": "nearest", "num_args": 1},
        data="arg0",
    ),
    op("UpSampling", PICTURES, scale=2, sample_type="bilinear", num_args=2, num_filter=4),
    op("BatchNorm", PICTURES),
    op("BatchNorm", PICTURES, fix_gamma=False, eps=1e-5),
    op("BatchNorm", PICTURES, fix_gamma=False, axis=-1),
    op("BatchNorm", (2, 5), fix_gamma=False),
    op("InstanceNorm", PICTURES),
    op("LayerNorm", VALUES),
    op("LayerNorm", VALUES, axis=1),
    op("GroupNorm", PICTURES, num_groups=2),
    *(op("L2Normalization", PICTURES, mode=mode) for mode in ("instance", "channel", "spatial")),
    op("LRN", PICTURES, nsize=3, alpha=0.01, beta=0.5, knorm=1.5),
    *(op(name) for name in ("softmax", "log_softmax", "softmin")),
    op("softmax", axis=1, temperature=2.0),
    op("log_softmax", axis=1),
    op("SoftmaxActivation"),
    op("SoftmaxActivation", PICTURES, mode="channel"),
    op("SoftmaxOutput", (2, 5)),
    op("SoftmaxOutput", VALUES),
    op("SoftmaxOutput", PICTURES, multi_output=True),
    op("SoftmaxOutput", VALUES, preserve_shape=True),
    *(op(f"{kind}RegressionOutput", (2, 5)) for kind in ("Linear", "Logistic", "MAE")),
    op("SVMOutput", (2, 5)),
    op("Dropout", p=0.5),
    OperatorCase(
        "Embedding", (2, 3), {"input_dim": 6, "output_dim": 4}, low=-3, high=9, whole=True
    ),
    op("Flatten", PICTURES),
    *(
        op("Reshape", PICTURES, shape=shape)
        for shape in ((0, -1), (-1, 6), (0, 0, -3), (-2,), (0, -4, 2, 2, -2), (0, -4, 2, -1, -3))
    ),
    op("Reshape", PICTURES, shape=(-3, -3)),
    op("Reshape", PICTURES, shape=(-1, 0), reverse=True),
    op("transpose"),
    op("transpose", axes=(1, 0, 2)),
    op("expand_dims", axis=1),
    op("expand_dims", axis=-1),
    op("squeeze", (2, 1, 3, 1)),
    op("squeeze", (2, 1, 3, 1), axis=1),
    op("SwapAxis", dim1=0, dim2=2),
    op("slice", begin=(0, 1), end=(2, 3)),
    op("slice", begin=(None, 1, None), end=(None, None, None), step=(None, 1, -1)),
    op("slice_axis", axis=1, begin=1, end=None),
    op("slice_axis", axis=-1, begin=-3, end=-1),
    OperatorCase("slice_like", others={"shape_like": (1, 2, 3)}),
    OperatorCase("slice_like", arguments={"axes": (1,)}, others={"shape_like": (1, 2, 3)}),
    op("SliceChannel", (2, 6, 3), num_outputs=3),
    op("SliceChannel", (2, 3, 4), num_outputs=3, squeeze_axis=True),
    op("_split_v2", (2, 6, 3), indices=(0, 2, 5), axis=1),
    op("_split_v2", (2, 6, 3), sections=3, axis=1, indices=()),
    op("tile", reps=(2, 1, 3)),
    op("tile", reps=(2, 1, 1, 2)),
    op("tile", reps=(2,)),
    op("repeat", repeats=2, axis=1),
    op("repeat", repeats=2, axis=-1),
    op("repeat", repeats=3),
    op("reverse", axis=1),
    op("reverse", axis=(0, 2)),
    op("broadcast_to", (2, 1, 4), shape=(2, 3, 4)),
    op("broadcast_to", (2, 1, 4), shape=(0, 3, 0)),
    op("broadcast_axis", (2, 1, 4), axis=1, size=3),
    OperatorCase("broadcast_like", (2, 1, 4), others={"rhs": VALUES}, data="lhs"),
    OperatorCase("reshape_like", (2, 12), others={"rhs": VALUES}, data="lhs"),
    op("depth_to_space", PICTURES, block_size=2),
    op("space_to_depth", (2, 3, 4, 6), block_size=2),
    *(
        op("Pad", PICTURES, mode=mode, pad_width=(0, 0, 0, 0, 1, 2, 2, 1), constant_value=3)
        for mode in ("constant", "edge", "reflect")
    ),
    OperatorCase("Crop", PICTURES, {"num_args": 1, "offset": (1, 2), "h_w": (3, 4)}, data="arg0"),
    OperatorCase(
        "Crop", PICTURES, {"num_args": 2, "offset": (1, 1)}, {"arg1": (2, 1, 3, 4)}, data="arg0"
    ),
    OperatorCase("Concat", arguments={"dim": 2}, others={"arg1": (2, 3, 5)}, data="arg0"),
    OperatorCase("stack", arguments={"axis": 1}, others={"arg1": VALUES}, data="arg0"),
    OperatorCase("stack", arguments={"axis": -1}, others={"arg1": VALUES}, data="arg0"),
    OperatorCase("add_n", others={"arg1": VALUES, "arg2": VALUES}, data="arg0"),
    OperatorCase("where", others={"x": VALUES, "y": VALUES}, whole=True, data="condition"),
    OperatorCase("dot", (2, 3), others={"rhs": (3, 4)}, data="lhs"),
    OperatorCase(
        "dot", (3, 2), {"transpose_a": True, "transpose_b": True}, {"rhs": (4, 3)}, data="lhs"
    ),
    OperatorCase("batch_dot", (2, 3, 4), others={"rhs": (2, 4, 5)}, data="lhs"),
    OperatorCase("batch_dot", (2, 4, 3), {"transpose_a": True}, {"rhs": (2, 4, 5)}, data="lhs"),
    OperatorCase(
        "_linalg_gemm2", (2, 3, 4), {"alpha": 0.5, "transpose_b": True}, {"B": (2, 5, 4)}, data="A"
    ),
    op("_contrib_div_sqrt_dim"),
    op("topk", k=2),
    op("topk", k=2, axis=1, ret_typ="value", is_ascend=True),
    op("topk", k=2, ret_typ="both", dtype="int32"),
    op("argsort"),
    op("argsort", axis=1, is_ascend=False),
    op("sort", axis=1),
    OperatorCase("take", (5, 3), others={"indices": (2, 4)}, data="a", high=7, low=-2, whole=True),
    OperatorCase(
        "take", (2, 5), {"axis": 1, "mode": "wrap"}, {"indices": (4,)}, high=9, whole=True, data="a"
    ),
    OperatorCase("one_hot", (2, 3), {"depth": 4}, low=-1, high=5, whole=True, data="indices"),
    OperatorCase("pick", (2, 5), others={"index": (2,)}, low=-1, high=7, whole=True),
    OperatorCase("pick", (2, 5), {"axis": 0, "keepdims": True}, {"index": (5,)}, whole=True),
    OperatorCase("gather_nd", (3, 4, 2), others={"indices": (2, 5)}, low=0, high=2, whole=True),
]


SPACES = {
    "": mx.sym,
    "_contrib_": mx.sym.contrib,
    "_linalg_": mx.sym.linalg,
    "_": mx.sym._internal,
}


def made(case: OperatorCase) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The symbol, its inputs, and its parameters, with random values."""
    function = next(
        getattr(module, name)
        for prefix, module in SPACES.items()
        for name in (case.operator.removeprefix(prefix), case.operator)
        if case.operator.startswith(prefix) and hasattr(module, name)
    )
    names = [case.data, *case.others]
    if case.data == "arg0":
        symbol = function(*map(mx.sym.Variable, names), name="it", **case.arguments)
    else:
        symbol = function(
            **{name: mx.sym.Variable(name) for name in names}, name="it", **case.arguments
        )
    return symbol, *values_of(symbol, case)


def values_of(symbol: Any, case: OperatorCase) -> tuple[dict[str, np.ndarray], ...]:
    random = np.random.default_rng(7)

    def values(shape: tuple[int, ...]) -> np.ndarray:
        numbers = random.uniform(case.low, case.high, shape)
        return (np.round(numbers) if case.whole else numbers).astype(np.float32)

    shapes = {case.data: case.shape, **case.others}
    inputs = {name: values(shape) for name, shape in shapes.items()}
    arguments, _, states = symbol.infer_shape(**shapes)
    named = {
        **dict(zip(symbol.list_arguments(), arguments, strict=True)),
        **dict(zip(symbol.list_auxiliary_states(), states, strict=True)),
    }
    weights = {
        name: np.abs(random.normal(size=shape)).astype(np.float32)
        for name, shape in named.items()
        if name not in inputs
    }
    return inputs, weights


def computed(
    symbol: Any, inputs: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """What MXNet computes."""
    values = {
        name: mx.nd.array(each, dtype=each.dtype) for name, each in (inputs | weights).items()
    }
    states = symbol.list_auxiliary_states()
    bound = symbol.bind(
        mx.cpu(),
        {name: value for name, value in values.items() if name not in states},
        grad_req="null",
        aux_states={name: values[name] for name in states},
    )
    return [output.asnumpy() for output in bound.forward(is_train=False)]


def write(
    directory: Path,
    symbol: Any,
    inputs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
) -> None:
    symbol.save(str(directory / "model-symbol.json"))
    states = set(symbol.list_auxiliary_states())
    named = {
        f"{'aux' if name in states else 'arg'}:{name}": mx.nd.array(value, dtype=value.dtype)
        for name, value in weights.items()
        if not name.endswith("_label")
    }
    mx.nd.save(str(directory / "model-0000.params"), named)
    shapes = {
        name: {"dtype": value.dtype.name, "shape": [None, *value.shape[1:]]}
        for name, value in inputs.items()
    }
    (directory / "signature.json").write_text(json.dumps({"inputs": shapes}))


def converted(directory: Path, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime computes."""
    model = mxnet_to_onnx(str(directory)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))


def test_it_computes_the_same(case: OperatorCase, tmp_path: Path):
    symbol, inputs, weights = made(case)
    expected = computed(symbol, inputs, weights)
    write(tmp_path, symbol, inputs, weights)
    found = converted(tmp_path, inputs)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, 1e-5, 1e-5)
