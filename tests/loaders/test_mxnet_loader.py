"""MXNet's models are served without MXNet; what MXNet itself answers: tests/platforms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mxnet_models
import numpy as np
import pytest
from mxnet_models import node, variable

from serving.core.dtypes import DType
from serving.core.errors import Code, NotFound, ServingError
from serving.core.resources import RAM
from serving.core.servable import DEFAULT_SIGNATURE, RunOptions, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.platform_detection import platform_of

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from serving.loaders.mxnet_loader import MXNetPlatform

X = np.array([[1, 2], [3, 4]], np.float32)
LISTED = {
    "inputs": [{"data_name": "data", "data_shape": [1, 2]}],
    "input_type": "application/json",
    "outputs": [{"data_name": "price", "data_shape": [1, 1]}],
    "output_type": "application/json",
}


def load(path: Path) -> Any:
    return MXNetPlatform().load(ServableId("m", 1), str(path))


def signature(path: Path) -> Any:
    return load(path).signatures[DEFAULT_SIGNATURE]


def answers(path: Path, **inputs: np.ndarray) -> Mapping[str, np.ndarray]:
    servable = load(path)
    names = list(servable.signatures[DEFAULT_SIGNATURE].outputs)
    results: list[Any] = []
    servable.run(inputs, names, RunOptions(), results.append)
    assert not isinstance(results[0], ServingError), results[0]
    return dict(zip(names, results[0], strict=True))


def refusal(path: Path, code: Code = Code.INVALID_ARGUMENT) -> str:
    with pytest.raises(ServingError) as raised:
        load(path)
    assert raised.value.code is code
    assert str(path) not in raised.value.message
    assert "INVALID_ARGUMENT" not in raised.value.message
    return raised.value.message


def test_a_model_of_simple_tensorflow_serving_answers(tmp_path: Path):
    """Symbol, epoch 1, and a signature file that names the output otherwise than the symbol."""
    mxnet_models.write_regression(tmp_path)
    (tmp_path / "model-symbol.json").rename(tmp_path / "mx_mlp-symbol.json")
    (tmp_path / "model-0000.params").rename(tmp_path / "mx_mlp-0001.params")
    (tmp_path / "mx_mlp-signature.json").write_text(json.dumps(LISTED))
    assert signature(tmp_path).inputs == {"data": TensorInfo("data", DType.FLOAT, (None, 2))}
    assert signature(tmp_path).outputs == {"price": TensorInfo("price", DType.FLOAT, (None, 1))}
    np.testing.assert_array_equal(answers(tmp_path, data=X)["price"], [[12], [22]])


def test_without_a_signature_file_weights_and_mxnets_names_tell(tmp_path: Path):
    mxnet_models.write_regression(tmp_path)
    assert signature(tmp_path).inputs == {"data": TensorInfo("data", DType.FLOAT, (None, 2))}
    np.testing.assert_array_equal(answers(tmp_path, data=X)["lro_output"], [[12], [22]])


def test_the_list_form_may_be_called_signature_json(tmp_path: Path):
    mxnet_models.write_regression(tmp_path)
    (tmp_path / "signature.json").write_text(json.dumps(LISTED))
    np.testing.assert_array_equal(answers(tmp_path, data=X)["price"], [[12], [22]])


def test_signature_json_gives_types_too(tmp_path: Path):
    """Integers come in, as floats the model computes with them, and a double goes out."""
    doubled = node("_mul_scalar", "doubled", (0, 0), scalar="2")
    mxnet_models.write(tmp_path, [variable("data"), doubled], {})
    tensors = {
        "inputs": {"data": {"dtype": "int32", "shape": [None, 2]}},
        "outputs": {"y": {"dtype": "double", "shape": [None, 2]}},
    }
    (tmp_path / "signature.json").write_text(json.dumps(tensors))
    assert signature(tmp_path).outputs == {"y": TensorInfo("y", DType.DOUBLE, (None, 2))}
    found = answers(tmp_path, data=X.astype(np.int32))["y"]
    np.testing.assert_array_equal(found, X * 2)


@pytest.mark.parametrize(
    ("file", "document", "reason"),
    [
        ("model-signature.json", "{", "model-signature.json is no JSON"),
        ("model-signature.json", [], "model-signature.json: it must be an object"),
        ("model-signature.json", {"inputs": {}}, "inputs must be a list"),
        ("model-signature.json", {"inputs": [{}]}, "inputs[0].data_name must be a name"),
        (
            "model-signature.json",
            {"inputs": [{"data_name": "data", "data_shape": "2"}]},
            "inputs[0].data_shape must be a list of sizes",
        ),
        (
            "model-signature.json",
            {"inputs": [LISTED["inputs"][0]] * 2},
            "inputs has 'data' twice",
        ),
        (
            "signature.json",
            {"inputs": [{"data_name": "x", "data_shape": [1, 2]}]},
            "the signature lacks the input 'data'",
        ),
        (
            "signature.json",
            LISTED | {"inputs": [*LISTED["inputs"], {"data_name": "x"}]},
            "the signature has the input 'x'",
        ),
        (
            "signature.json",
            LISTED | {"outputs": [{"data_name": "a"}, {"data_name": "b"}]},
            "the signature has 2 outputs, the model lro_output",
        ),
        (
            "signature.json",
            {"outputs": {"y": {"dtype": "float", "shape": [None, 3]}}},
            "the output 'y' of the shape [None, 3], the model of [None, 1]",
        ),
        ("signature.json", {"outputs": {"y": {"dtype": "string"}}}, "'y' can not be string"),
        ("signature.json", {"inputs": {"data": {"dtype": "string"}}}, "'data' can not be string"),
    ],
)
def test_a_signature_file_that_is_wrong_is_refused(
    tmp_path: Path, file: str, document: Any, reason: str
):
    mxnet_models.write_regression(tmp_path)
    (tmp_path / file).write_text(document if isinstance(document, str) else json.dumps(document))
    assert reason in refusal(tmp_path)


def test_the_last_epoch_is_served(tmp_path: Path):
    mxnet_models.write_regression(tmp_path)
    arrays = {"arg:fc1_weight": mxnet_models.WEIGHT, "arg:fc1_bias": np.array([0], np.float32)}
    (tmp_path / "model-0010.params").write_bytes(mxnet_models.params_bytes(arrays))
    (tmp_path / "model-0009.params").write_bytes(b"")
    np.testing.assert_array_equal(answers(tmp_path, data=X)["lro_output"], [[8], [18]])


def test_files_that_are_missing_are_named(tmp_path: Path):
    assert "model-symbol.json" in refusal(tmp_path, Code.NOT_FOUND)
    mxnet_models.write_regression(tmp_path)
    (tmp_path / "model-0000.params").rename(tmp_path / "other-0000.params")
    assert "model-0000.params" in refusal(tmp_path, Code.NOT_FOUND)
    (tmp_path / "model-symbol.json").rename(tmp_path / "one-symbol.json")
    (tmp_path / "two-symbol.json").write_text("{}")
    assert "2" in refusal(tmp_path, Code.NOT_FOUND)
    with pytest.raises(NotFound):
        MXNetPlatform().estimate(str(tmp_path))


def test_parameters_of_another_model_are_told_by_what_they_lack(tmp_path: Path):
    mxnet_models.write_regression(tmp_path)
    arrays = mxnet_models.params_bytes({"arg:dense0_weight": mxnet_models.WEIGHT})
    (tmp_path / "model-0000.params").write_bytes(arrays)
    assert "the parameters lack 'fc1_weight'" in refusal(tmp_path)


def test_parameters_of_another_shape_are_refused_with_the_layer(tmp_path: Path):
    mxnet_models.write_regression(tmp_path, fc1_weight=np.ones((2, 2, 2), np.float32))
    assert refusal(tmp_path).startswith("FullyConnected 'fc1': ")


@pytest.mark.parametrize("operator", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"kernel": "(3, 2)"}, "of another kernel"),
        ({"kernel": "(2,)"}, "of another kernel"),
        ({"kernel": "(2, 2)", "num_group": "0"}, "num_group can not be 0"),
        ({"kernel": "(2, 2)", "stride": "(0, 1)"}, "stride can not be '(0, 1)'"),
    ],
)
def test_a_convolution_and_its_weight_have_to_fit(
    tmp_path: Path, operator: str, attributes: Mapping[str, str], reason: str
):
    it = node(operator, "it", (0, 0), (1, 0), no_bias="True", num_filter="4", **attributes)
    weight = np.ones((4, 4, 2, 2), np.float32)
    mxnet_models.write(tmp_path, [variable("data"), variable("w"), it], {"arg:w": weight})
    text = refusal(tmp_path)
    assert text.startswith(f"{operator} 'it': ")
    assert reason in text


def test_an_operator_that_is_not_known_is_named(tmp_path: Path):
    lost = node("_contrib_MultiBoxDetection", "det", (0, 0))
    mxnet_models.write(tmp_path, [variable("data"), lost], {})
    wanted = "_contrib_MultiBoxDetection 'det': the operator is not supported"
    assert refusal(tmp_path, Code.FAILED_PRECONDITION) == wanted


@pytest.mark.parametrize(
    ("operator", "attributes", "reason"),
    [
        ("Activation", {"act_type": "swish"}, "act_type can not be 'swish'"),
        ("clip", {"a_min": "low"}, "a_min must be a number, not 'low'"),
        ("transpose", {"axes": "(0, x)"}, "axes must be an integer, not 'x'"),
        ("transpose", {"axes": "(0, 5)"}, "Transpose"),
        ("transpose", {"axes": f"({'9' * 30},)"}, "axes must be an integer"),
        ("Concat", {"dim": "70"}, "Concat"),
        ("expand_dims", {}, "axis must be an integer"),
        ("Pooling", {"kernel": "()"}, "kernel can not be '()'"),
        ("Pooling", {"kernel": "(2, 2)", "stride": "(1, 0)"}, "stride can not be '(1, 0)'"),
        ("Pooling", {"kernel": "(2, 2)", "pad": "(-1, 0)"}, "pad can not be '(-1, 0)'"),
        ("Pooling", {"kernel": "(2, 2)", "stride": "(1,)"}, "stride can not be '(1,)'"),
        ("Pooling", {"kernel": "(2, 2)", "pool_type": "mid"}, "pool_type can not be 'mid'"),
        (
            "Convolution",
            {"kernel": "(2, 2)", "dilate": "(0, 1)"},
            "inputs and attributes do not fit",
        ),
        ("dot", {}, "inputs and attributes do not fit"),
        ("_full", {"shape": "(1000000, 1000000)"}, "shape can not be"),
        ("_full", {"shape": f"({'99, ' * 999})"}, "shape can not have 999 dimensions"),
        ("_full", {"shape": "(2,)", "value": "0.5", "dtype": "int32"}, "0.5 is no int32"),
        ("_full", {"shape": "(2,)", "value": "inf", "dtype": "int32"}, "do not fit"),
        ("_full", {"shape": "(2,)", "value": "nan", "dtype": "int32"}, "do not fit"),
        ("_full", {"shape": "(2,)", "value": "1000", "dtype": "int8"}, "do not fit"),
        ("SliceChannel", {"num_outputs": "1000000000"}, "num_outputs can not be"),
        ("Dropout", {"mode": "always"}, "'always'"),
        ("softmax", {"axis": "-9"}, "axis -9"),
        ("swapaxes", {"dim1": "8"}, "2 dimensions"),
        ("Cast", {"dtype": "bfloat16"}, "dtype must be one of"),
    ],
)
def test_attributes_that_can_not_be_are_refused_with_their_operator(
    tmp_path: Path, operator: str, attributes: Mapping[str, str], reason: str
):
    data = variable("data", __shape__="(0, 4)")
    mxnet_models.write(tmp_path, [data, node(operator, "it", (0, 0), **attributes)], {})
    text = refusal(tmp_path)
    assert text.startswith(f"{operator} 'it': ")
    assert reason in text


def test_the_least_integer_is_divided_by_minus_one(tmp_path: Path):
    """Which ended the process in onnxruntime."""
    data = variable("data", __shape__="(0, 3)", __dtype__="6")
    mxnet_models.write(tmp_path, [data, node("_div_scalar", "it", (0, 0), scalar="-1")], {})
    found = answers(tmp_path, data=np.array([[-(2**63), 7, -7]]))["it_output"]
    np.testing.assert_array_equal(found, [[-(2**63), -7, 7]])


def test_upsampling_in_no_groups_is_refused(tmp_path: Path):
    attributes = {"scale": "2", "sample_type": "bilinear", "num_filter": "0"}
    nodes = [
        variable("data"),
        variable("w"),
        node("UpSampling", "it", (0, 0), (1, 0), **attributes),
    ]
    mxnet_models.write(tmp_path, nodes, {"w": np.ones((4, 1, 4, 4), np.float32)})
    assert refusal(tmp_path) == "UpSampling 'it': it can not be in 0 groups"


def test_variables_may_say_their_types_and_shapes_themselves(tmp_path: Path):
    """Python 2 wrote long integers with an L."""
    data = variable("data", __shape__="(0L, 4L, 0L)", __dtype__="6")
    mxnet_models.write(tmp_path, [data, node("identity", "same", (0, 0))], {})
    assert signature(tmp_path).inputs == {"data": TensorInfo("data", DType.INT64, (None, 4, None))}


def test_parameters_in_half_precision_make_the_input_so(tmp_path: Path):
    arrays = {"fc1_weight": np.array([[2, 3]], np.float16), "fc1_bias": np.array([4], np.float16)}
    mxnet_models.write_regression(tmp_path)
    content = mxnet_models.params_bytes({f"arg:{name}": each for name, each in arrays.items()})
    (tmp_path / "model-0000.params").write_bytes(content)
    (found,) = answers(tmp_path, data=X.astype(np.float16)).values()
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, [[12], [22]])


def test_outputs_that_are_not_there_are_refused(tmp_path: Path):
    same = node("identity", "same", (0, 0))
    mxnet_models.write(tmp_path, [variable("data"), same], {}, heads=[[1, 3, 0]])
    assert "same_output" in refusal(tmp_path)
    mxnet_models.write(tmp_path, [variable("data"), same], {}, heads=[[1, 0, 0], [1, 0, 0]])
    assert "same name" in refusal(tmp_path)
    uses = node("identity", "uses", (1, 2))
    mxnet_models.write(tmp_path, [variable("data"), same, uses], {})
    assert "no output 2" in refusal(tmp_path)


def test_channels_may_stand_last(tmp_path: Path):
    """MXNet computes such convolutions on GPUs alone."""
    weight = np.arange(2 * 1 * 1 * 3, dtype=np.float32).reshape(2, 1, 1, 3)
    nodes = [
        variable("data"),
        variable("weight"),
        node(
            "Convolution",
            "conv",
            (0, 0),
            (1, 0),
            kernel="(1, 1)",
            num_filter="2",
            no_bias="True",
            layout="NHWC",
        ),
    ]
    mxnet_models.write(tmp_path, nodes, {"arg:weight": weight})
    picture = np.random.default_rng(1).normal(size=(2, 4, 5, 3)).astype(np.float32)
    found = answers(tmp_path, data=picture)["conv_output"]
    np.testing.assert_allclose(found, picture @ weight.reshape(2, 3).T, 1e-5, 1e-5)
    assert signature(tmp_path).inputs["data"].shape == (None, None, None, 3)


@pytest.mark.parametrize(
    ("operator", "attributes", "value"),
    [("_zeros", {}, 0), ("_ones", {}, 1), ("_full", {"value": "2.5"}, 2.5)],
)
def test_constants_are_part_of_the_model(
    tmp_path: Path, operator: str, attributes: Mapping[str, str], value: float
):
    constant = node(operator, "constant", shape="(1, 2)", dtype="float32", **attributes)
    total = node("broadcast_add", "total", (0, 0), (1, 0))
    mxnet_models.write(tmp_path, [variable("data"), constant, total], {})
    np.testing.assert_array_equal(answers(tmp_path, data=X)["total_output"], X + value)


def test_memory_is_estimated_from_the_parameters(tmp_path: Path):
    mxnet_models.write_regression(tmp_path)
    small = MXNetPlatform().estimate(str(tmp_path)).quantities[RAM]
    mxnet_models.write_regression(tmp_path, more=np.zeros(1000, np.float32))
    large = MXNetPlatform().estimate(str(tmp_path)).quantities[RAM]
    assert large - small >= 2 * 4000


def test_it_is_told_from_its_files(tmp_path: Path):
    mxnet_models.write_regression(tmp_path)
    (tmp_path / "model-signature.json").write_text(json.dumps(LISTED))
    assert platform_of(str(tmp_path)) == "mxnet"
