"""ONNX models with operators older than onnxruntime's answer as they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.core.cancellation import Cancellation
from serving.core.dtypes import DType
from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, RunOptions, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.onnx_graph import operator_set
from serving.loaders.onnx_loader import OnnxPlatform

M1 = ServableId("m", 1)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
CHANNEL = np.array([0.5, -2, 3], np.float32)
COLUMN = CHANNEL[:, np.newaxis, np.newaxis]


def save(
    directory: Path,
    nodes: Sequence[Any],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 2,
    ir_version: int = 2,
    shape: Sequence[int] = IMAGE.shape,
    output: str = "y",
) -> str:
    """A model that makes an output of x; weights are inputs as well, as exporters had them."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    inputs += [
        helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in tensors
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return str(directory)


def answered(path: str, x: np.ndarray = IMAGE) -> np.ndarray:
    results: list[Any] = []
    servable = OnnxPlatform().load(M1, path)
    outputs = list(servable.signatures[DEFAULT_SIGNATURE].outputs)
    servable.run({"x": x}, outputs, RunOptions(cancellation=Cancellation()), results.append)
    assert not isinstance(results[0], ServingError), results[0]
    return results[0][0]


def node(op_type: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(op_type, inputs, ["y"], **attributes)


def normalized(x: np.ndarray) -> np.ndarray:
    return (x - COLUMN) / np.sqrt(COLUMN**2 + 0.01) * COLUMN + COLUMN


@pytest.mark.parametrize(
    ("written", "weights", "expected"),
    [
        (node("Add", "x", "w", broadcast=1, axis=1), {"w": CHANNEL}, IMAGE + COLUMN),
        (node("Mul", "x", "w", broadcast=1, axis=-3), {"w": CHANNEL}, IMAGE * COLUMN),
        (
            node("Sub", "x", "w", broadcast=1, axis=1),
            {"w": IMAGE[0, :, :, 0]},
            IMAGE - IMAGE[0, :, :, :1],
        ),
        (node("Div", "x", "w", broadcast=1), {"w": IMAGE[0, 0]}, IMAGE / IMAGE[0, 0]),
        (node("Add", "x", "x"), {}, IMAGE * 2),
        (node("Relu", "x", consumed_inputs=[0]), {}, np.maximum(IMAGE, 0)),
        (node("Reshape", "x", shape=[0, -1]), {}, IMAGE.reshape(2, -1)),
        (node("Dropout", "x", is_test=1, ratio=0.5), {}, IMAGE),
        (node("Clip", "x", min=-0.5, max=0.25), {}, np.clip(IMAGE, -0.5, 0.25)),
        (node("Clip", "x", max=0.25), {}, np.minimum(IMAGE, 0.25)),
        (node("Concat", "x", "x"), {}, np.concatenate([IMAGE, IMAGE], 1)),
        (node("Slice", "x", axes=[1, 3], starts=[1, 0], ends=[3, -1]), {}, IMAGE[:, 1:3, :, :-1]),
        (node("Cast", "x", to="INT32"), {}, IMAGE.astype(np.int32)),
        (
            node("Pad", "x", pads=[0, 0, 1, 0, 0, 0, 0, 2], value=3.0),
            {},
            np.pad(IMAGE, [(0, 0), (0, 0), (1, 0), (0, 2)], constant_values=3),
        ),
        (
            node("PRelu", "x", "w"),
            {"w": CHANNEL},
            np.where(IMAGE < 0, IMAGE * COLUMN, IMAGE),
        ),
        (
            node("BatchNormalization", "x", "w", "w", "w", "v", epsilon=0.01, is_test=1, spatial=1),
            {"w": CHANNEL, "v": CHANNEL**2},
            normalized(IMAGE),
        ),
        (
            node("Upsample", "x", height_scale=2.0, width_scale=3.0, mode="nearest"),
            {},
            IMAGE.repeat(2, 2).repeat(3, 3),
        ),
        (node("Softmax", "x"), {}, None),
    ],
    ids=lambda value: getattr(value, "op_type", ""),
)
def test_an_operator_computes_what_it_did(
    tmp_path: Path, written: Any, weights: Mapping[str, np.ndarray], expected: np.ndarray | None
):
    if expected is None:
        flat = np.exp(IMAGE.reshape(2, -1))
        expected = (flat / flat.sum(1, keepdims=True)).reshape(IMAGE.shape)
    found = answered(save(tmp_path, [written], weights))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_a_network_of_2018_answers_and_has_the_signature_that_it_had(tmp_path: Path):
    """As exporters wrote it: a bias by Add and axis, a matrix by Gemm and broadcast."""
    filters = RNG.normal(size=(4, 3, 2, 2)).astype(np.float32)
    bias, matrix = np.arange(4, dtype=np.float32), RNG.normal(size=(5, 8)).astype(np.float32)
    scores = np.arange(5, dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "f"], ["c"], kernel_shape=[2, 2]),
        helper.make_node("Add", ["c", "b"], ["d"], broadcast=1, axis=1),
        helper.make_node("Relu", ["d"], ["e"], consumed_inputs=[1]),
        helper.make_node("MaxPool", ["e"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Mul", ["p", "s"], ["q"], broadcast=1),
        helper.make_node("Dropout", ["q"], ["r", "mask"], is_test=1),
        helper.make_node("Reshape", ["r"], ["t"], shape=[2, 8]),
        helper.make_node("Gemm", ["t", "m", "o"], ["y"], transB=1, broadcast=1),
    ]
    path = save(tmp_path, nodes, {"f": filters, "b": bias, "m": matrix, "o": scores})
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE, (2, 2), (2, 3))
    image = np.einsum("nchwij,ocij->nohw", windows, filters) + bias[:, None, None]
    image = np.maximum(image, 0)[:, :, :2, :4].reshape(2, 4, 1, 2, 2, 2).max((3, 5)) * 2
    expected = image.reshape(2, 8) @ matrix.T + scores
    np.testing.assert_allclose(answered(path), expected, 1e-4, 1e-4)
    signature = OnnxPlatform().load(M1, path).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"x": TensorInfo("x", DType.FLOAT, IMAGE.shape)}
    assert signature.outputs == {"y": TensorInfo("y", DType.FLOAT, (2, 5))}


@pytest.mark.parametrize("opset", [1, 2, 5, 6])
def test_every_older_set_is_upgraded(tmp_path: Path, opset: int):
    path = save(tmp_path, [node("Add", "x", "w", broadcast=1, axis=1)], {"w": CHANNEL}, opset=opset)
    np.testing.assert_allclose(answered(path), IMAGE + COLUMN)


def test_models_from_before_operator_sets_are_of_the_first(tmp_path: Path):
    path = save(tmp_path, [node("Add", "x", "w", broadcast=1, axis=1)], {"w": CHANNEL})
    file = tmp_path / "model.onnx"
    model = onnx.load(file)
    del model.opset_import[:]
    file.write_bytes(model.SerializeToString())
    assert operator_set(file) == 1
    np.testing.assert_allclose(answered(path), IMAGE + COLUMN)


def test_what_onnxruntime_takes_is_not_upgraded(tmp_path: Path):
    """Converters of tables say the first set where they use none of its operators."""
    scaled = node("Scaler", "x", offset=[1.0], scale=[2.0], domain="ai.onnx.ml")
    path = save(tmp_path, [scaled], opset=1, ir_version=3, shape=[2, 3])
    file = tmp_path / "model.onnx"
    model = onnx.load(file)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    file.write_bytes(model.SerializeToString())
    np.testing.assert_allclose(answered(path, IMAGE[0, 0, :2, :3]), (IMAGE[0, 0, :2, :3] - 1) * 2)


def test_the_operator_set_is_that_of_onnx_itself(tmp_path: Path):
    file = tmp_path / "model.onnx"
    save(tmp_path, [node("Relu", "x")], opset=9, ir_version=4)
    model = onnx.load(file)
    model.opset_import.insert(0, helper.make_opsetid("com.others", 1))
    assert operator_set(model.SerializeToString()) == 9
    assert operator_set(b"hello\n") is None
    assert operator_set(b"") is None


@pytest.mark.parametrize(
    ("nodes", "kind", "said"),
    [
        ([node("Relu", "z")], InvalidArgument, "it reads 'z', which nothing before it makes"),
        ([node("Relu", "y")], InvalidArgument, "it reads 'y', which nothing before it makes"),
        ([], InvalidArgument, "nothing makes the output 'y'"),
        ([node("Add", "x")], InvalidArgument, "it has 1 inputs, and needs 2"),
        ([node("Add", "x", "x", broadcast=1, axis=3)], InvalidArgument, "can not be broadcast"),
        ([node("MadeUp", "x")], FailedPrecondition, "MadeUp of 'y': the operator is not supported"),
        ([node("PRelu", "x")], InvalidArgument, "its inputs and attributes do not fit"),
        ([node("Cast", "x", to="TENSOR")], InvalidArgument, "there is no type TENSOR"),
        ([node("BatchNormalization", "x", spatial=0)], FailedPrecondition, "each pixel"),
        ([node("Relu", "x", domain="com.others")], FailedPrecondition, "operators of com.others"),
    ],
)
def test_what_can_not_be_upgraded_is_told_of(
    tmp_path: Path, nodes: Sequence[Any], kind: type[ServingError], said: str
):
    with pytest.raises(kind) as raised:
        OnnxPlatform().load(M1, save(tmp_path, nodes))
    assert said in raised.value.message


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (node("Clip", "x", min=-0.5, max=0.5), lambda x: np.clip(x, -0.5, 0.5)),
        (
            node("Pad", "x", pads=[0, 1, 0, 1], value=2.0),
            lambda x: np.pad(x, ((0, 0), (1, 1)), constant_values=2),
        ),
    ],
)
def test_models_may_be_of_half_and_double_precision(
    tmp_path: Path, dtype: Any, written: Any, expected: Any
):
    x = np.array([[-1, 0.25], [0.5, 3]], dtype)
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    kinds = [helper.make_tensor_value_info(name, element, None) for name in ("x", "y")]
    graph = helper.make_graph([written], "graph", kinds[:1], kinds[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 2)])
    model.ir_version = 3
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = answered(str(tmp_path), x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected(x))


def test_weights_in_other_files_are_not_looked_for(tmp_path: Path):
    path = save(tmp_path, [node("Add", "x", "w")], {"w": IMAGE})
    file = tmp_path / "model.onnx"
    model = onnx.load(file)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidArgument) as raised:
        OnnxPlatform().load(M1, path)
    assert raised.value.message == "weight 'w' lies in another file"


def test_damaged_weights_are_refused(tmp_path: Path):
    path = save(tmp_path, [node("Add", "x", "w")], {"w": IMAGE})
    file = tmp_path / "model.onnx"
    model = onnx.load(file)
    model.graph.initializer[0].raw_data = b"short"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidArgument) as raised:
        OnnxPlatform().load(M1, path)
    assert raised.value.message.startswith("weight 'w' is damaged: ")


def test_a_network_of_the_operators_of_2019_answers(tmp_path: Path):
    """Operators of set 9 and version 4 of the format, with initializers that are inputs as well, as
    CNTK's last exporter had them.
    """
    weights = {"W": np.arange(6, dtype=np.float32).reshape(3, 2), "b": CHANNEL[:2]}
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["Times_Output_0"]),
        helper.make_node("Add", ["Times_Output_0", "b"], ["Plus_Output_0"]),
        helper.make_node("Relu", ["Plus_Output_0"], ["ReLU_Output_0"]),
    ]
    shape = ["FreeDimension", 3]
    path = save(
        tmp_path, nodes, weights, opset=9, ir_version=4, shape=shape, output="ReLU_Output_0"
    )
    rows = np.array([[1, -2, 3], [-1, 0, 1]], np.float32)
    expected = np.maximum(rows @ weights["W"] + weights["b"], 0)
    np.testing.assert_allclose(answered(path, rows), expected, 1e-6)
    signature = OnnxPlatform().load(M1, path).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs["x"].shape == (None, 3)
