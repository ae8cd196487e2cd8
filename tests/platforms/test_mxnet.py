"""Models that MXNet has saved are served, with MXNet's answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.mxnet_loader import MXNetPlatform

if find_spec("mxnet") is None:
    pytest.skip("mxnet is not installed", allow_module_level=True)

from mxnet_beside_numpy_2 import import_mxnet

__all__ = ["served"]

mx = import_mxnet()
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what MXNet uses

RANDOM = np.random.default_rng(3)
ROWS = RANDOM.normal(size=(2, 5)).astype(np.float32)
PICTURES = RANDOM.normal(size=(2, 3, 8, 8)).astype(np.float32)
PAIR = {"left": ROWS, "right": ROWS[:, :3] ** 2}
WORDS = np.array([[1, 4, 2], [0, 3, 3]], np.int32)


def write_module(directory: Path) -> Mapping[str, np.ndarray]:
    """A checkpoint of Module, with the signature file of simple_tensorflow_serving."""
    hidden = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=7, name="fc1")
    hidden = mx.sym.Activation(hidden, act_type="relu", name="relu1")
    symbol = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(hidden, num_hidden=3), name="softmax")
    module = mx.mod.Module(symbol, label_names=["softmax_label"])
    module.bind([("data", ROWS.shape)], [("softmax_label", (2,))], for_training=False)
    mx.random.seed(5)
    module.init_params(mx.init.Normal(0.7))
    module.save_checkpoint(str(directory / "mlp"), 1)
    shapes = {
        "inputs": [{"data_name": "data", "data_shape": [1, 5]}],
        "input_type": "application/json",
        "outputs": [{"data_name": "classes", "data_shape": [1, 3]}],
    }
    (directory / "mlp-signature.json").write_text(json.dumps(shapes))
    module.forward(mx.io.DataBatch([mx.nd.array(ROWS)], None), is_train=False)
    assert module.output_names == ["softmax_output"]
    return {"classes": module.get_outputs()[0].asnumpy()}


def write_gluon(directory: Path) -> Mapping[str, np.ndarray]:
    """A convolutional network as Gluon exports it."""
    nn = mx.gluon.nn
    network = nn.HybridSequential(prefix="net_")
    with network.name_scope():
        network.add(nn.Conv2D(6, 3, padding=1), nn.BatchNorm(), nn.LeakyReLU(0.1))
        network.add(nn.MaxPool2D(2), nn.Conv2D(4, 3, activation="tanh", groups=2), nn.Dropout(0.5))
        network.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(5))
    mx.random.seed(6)
    network.initialize(mx.init.Normal(0.5))
    network.hybridize()
    for _ in range(3):
        with mx.autograd.record():  # moves the means that are normalized with
            network(mx.nd.array(PICTURES * 3 + 1))
    answers = network(mx.nd.array(PICTURES)).asnumpy()
    network.export(str(directory / "model"))
    return {"net_dense0_fwd_output": answers}


def write_group(directory: Path) -> Mapping[str, np.ndarray]:
    """Two inputs and two outputs, one of them of integers."""
    left, right = mx.sym.Variable("left"), mx.sym.Variable("right")
    joined = mx.sym.Concat(left, right * 2 - 1, dim=1, name="joined")
    dense = mx.sym.FullyConnected(joined, num_hidden=4, name="dense")
    best = mx.sym.argmax(dense, axis=1, name="best")
    symbol = mx.sym.Group([mx.sym.softmax(dense, name="shares"), best.astype("int32", name="kind")])
    shapes = {"left": {"dtype": "float", "shape": [None, 5]}}
    shapes["right"] = {"dtype": "float", "shape": [None, 3]}
    (directory / "signature.json").write_text(json.dumps({"inputs": shapes}))
    return bound(directory, symbol, PAIR)


def write_words(directory: Path) -> Mapping[str, np.ndarray]:
    """Words by their numbers, declared as integers in signature.json."""
    words = mx.sym.Variable("words", dtype=np.int32)
    embedded = mx.sym.Embedding(words, input_dim=6, output_dim=4, name="embed")
    symbol = mx.sym.FullyConnected(mx.sym.mean(embedded, axis=1), num_hidden=2, name="dense")
    signature = {"inputs": {"words": {"dtype": "int32", "shape": [None, 3]}}}
    (directory / "signature.json").write_text(json.dumps(signature))
    return bound(directory, symbol, {"words": WORDS})


def write_doubles(directory: Path) -> Mapping[str, np.ndarray]:
    symbol = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="dense")
    return bound(directory, symbol, {"data": ROWS.astype(np.float64)})


def bound(
    directory: Path, symbol: Any, inputs: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Saves the symbol with random weights, and has MXNet compute."""
    random = np.random.default_rng(4)
    shapes, _, _ = symbol.infer_shape(**{name: value.shape for name, value in inputs.items()})
    types, _, _ = symbol.infer_type(**{name: value.dtype for name, value in inputs.items()})
    arguments = {
        name: mx.nd.array(inputs.get(name, random.normal(size=shape)), dtype=dtype)
        for name, shape, dtype in zip(symbol.list_arguments(), shapes, types, strict=True)
    }
    weights = {f"arg:{name}": each for name, each in arguments.items() if name not in inputs}
    symbol.save(str(directory / "model-symbol.json"))
    mx.nd.save(str(directory / "model-0002.params"), weights)
    outputs = symbol.bind(mx.cpu(), arguments, grad_req="null").forward(is_train=False)
    return dict(zip(symbol.list_outputs(), [output.asnumpy() for output in outputs], strict=True))


def case(
    name: str,
    file: str,
    write: Callable[[Path], Mapping[str, np.ndarray]],
    inputs: Mapping[str, np.ndarray],
    tolerance: float = 1e-5,
) -> PlatformCase:
    return PlatformCase(name, "mxnet", file, write, inputs, tolerance=tolerance)


CASES = [
    case("module", "mlp-0001.params", write_module, {"data": ROWS}),
    case("module-symbol", "mlp-symbol.json", write_module, {"data": ROWS}),
    case("gluon", "model-0000.params", write_gluon, {"data": PICTURES}),
    case("group", "model-0002.params", write_group, PAIR),
    case("words", "model-symbol.json", write_words, {"words": WORDS}),
    case("doubles", "model-0002.params", write_doubles, {"data": ROWS.astype(np.float64)}),
]


class TestMXNet(PlatformTests):
    """Checkpoints of Module, exports of Gluon, and symbols saved by themselves."""


def test_shapes_and_types_come_from_the_weights(tmp_path: Path):
    write_gluon(tmp_path)
    servable = MXNetPlatform().load(ServableId("m", 1), str(tmp_path))
    signature = servable.signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"data": TensorInfo("data", DType.FLOAT, (None, 3, None, None))}
    assert signature.outputs == {
        "net_dense0_fwd_output": TensorInfo("net_dense0_fwd_output", DType.FLOAT, (None, 5))
    }
