"""Caffe2's nets compute what Caffe2 computes; what is wrong with their files is said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe2_cases import CASES, NET, ROWS, OperatorCase, numbers
from caffe2_models import argument, operator, save
from onnx import checker

from serving.core.cancellation import Cancellation
from serving.core.dtypes import DType
from serving.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, RunOptions, Servable, TensorInfo
from serving.core.servable_id import ServableId
from serving.generated.caffe2_net_pb2 import NetDef, OperatorDef
from serving.loaders.caffe2_loader import Caffe2Platform
from serving.loaders.caffe2_onnx import caffe2_to_onnx
from serving.loaders.device import CPU, Device
from serving.loaders.platform_detection import platform_of

M1 = ServableId("m", 1)


def written(directory: Path, case: OperatorCase) -> str:
    shapes = {name: values.shape for name, values in case.inputs.items()}
    return str(save(directory, case.operators, case.weights, shapes, case.outputs))


def of_rows(directory: Path, *operators: OperatorDef, **weights: np.ndarray) -> str:
    """A net that makes y of x, a matrix of four columns."""
    return str(save(directory, operators, weights, {"x": (1, 4)}, ["y"]))


def answered(servable: Servable, inputs: Mapping[str, Any]) -> Sequence[np.ndarray]:
    results: list[Any] = []
    outputs = list(servable.signatures[DEFAULT_SIGNATURE].outputs)
    servable.run(inputs, outputs, RunOptions(cancellation=Cancellation()), results.append)
    assert not isinstance(results[0], ServingError), results[0]
    return results[0]


def refusal(path: str, kind: type[ServingError] = InvalidArgument) -> str:
    with pytest.raises(kind) as raised:
        Caffe2Platform().load(M1, path)
    return raised.value.message


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_operator_computes_what_caffe2_computes(case: OperatorCase, tmp_path: Path):
    servable = Caffe2Platform().load(M1, written(tmp_path, case))
    found = dict(zip(case.outputs, answered(servable, case.inputs), strict=True))
    for name, expected in case.answers().items():
        assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found[name], expected, 1e-4, 1e-5)


def test_what_is_converted_is_a_model_of_onnx(tmp_path: Path):
    checker.check_model(caffe2_to_onnx(written(tmp_path, NET)), full_check=True)


def test_the_signature_has_the_sizes_of_value_inputs_but_for_the_batch(tmp_path: Path):
    signature = Caffe2Platform().load(M1, written(tmp_path, NET)).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"x": TensorInfo("x", DType.FLOAT, (None, 4, 7, 6))}
    assert signature.outputs == {
        "softmax": TensorInfo("softmax", DType.FLOAT, (None, 3)),
        "scores": TensorInfo("scores", DType.FLOAT, (None, 3)),
    }


def test_a_net_that_takes_one_size_of_batch_keeps_it(tmp_path: Path):
    path = of_rows(tmp_path, operator("Reshape", ["x"], ["y", "before"], shape=[2, 2]))
    signature = Caffe2Platform().load(M1, path).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs["x"].shape == (1, 4)
    assert signature.outputs["y"].shape == (2, 2)


def test_signature_json_is_stronger_and_names_any_blobs(tmp_path: Path):
    path = written(tmp_path, NET)
    declared = {
        "inputs": {"x": {"dtype": "float", "shape": [2, 4, 7, 6]}},
        "outputs": {"pool": {"dtype": "float"}},
    }
    (tmp_path / "signature.json").write_text(json.dumps(declared))
    servable = Caffe2Platform().load(M1, path)
    signature = servable.signatures[DEFAULT_SIGNATURE]
    assert signature.inputs["x"].shape == (2, 4, 7, 6)
    assert signature.outputs == {"pool": TensorInfo("pool", DType.FLOAT, (2, 6, 3, 3))}


def test_an_input_may_be_of_another_type(tmp_path: Path):
    path = of_rows(tmp_path, operator("Gather", ["w", "x"], ["y"]), w=ROWS)
    (tmp_path / "value_inputs.json").write_text('{"x": [2, [1]]}')
    servable = Caffe2Platform().load(M1, path)
    assert servable.signatures[DEFAULT_SIGNATURE].inputs["x"].dtype is DType.INT32
    (found,) = answered(servable, {"x": np.array([2, 0], np.int32)})
    np.testing.assert_array_equal(found, ROWS[[2, 0]])


def test_what_the_first_net_puts_into_an_input_is_not_read(tmp_path: Path):
    """Caffe2's exporters fill inputs, so that the blob is there; with anything."""
    path = save(tmp_path, [operator("Relu", ["x"], ["y"])], {}, {"x": (1, 4)}, ["y"])
    init = NetDef(op=[operator("UniformFill", [], ["x"], shape=[1, 4])])
    (path / "init_net.pb").write_bytes(init.SerializeToString())
    (found,) = answered(Caffe2Platform().load(M1, str(path)), {"x": ROWS})
    np.testing.assert_array_equal(found, np.maximum(ROWS, 0))


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [(1, argument("value", 0.5), 0.5), (10, argument("value", 3), 3), (2, None, 0)],
)
def test_constants_may_be_filled(tmp_path: Path, dtype: int, value: Any, expected: float):
    constant = operator("ConstantFill", [], ["c"], shape=[4], dtype=dtype)
    if value is not None:
        constant.arg.append(value)
    path = of_rows(
        tmp_path, constant, operator("Cast", ["c"], ["d"], to=1), operator("Add", ["x", "d"], ["y"])
    )
    (found,) = answered(Caffe2Platform().load(M1, path), {"x": ROWS})
    np.testing.assert_allclose(found, ROWS + expected)


def test_a_normalization_has_caffe2s_bias_where_it_says_none(tmp_path: Path):
    image, arguments = numbers(1, 4, 2, 2), {"size": 3, "alpha": 0.5, "beta": 0.75}
    answers = []
    for name, bias in (("said", {"bias": 1.0}), ("unsaid", {})):
        (tmp_path / name).mkdir()
        made = operator("LRN", ["x"], ["y"], **arguments, **bias)
        path = save(tmp_path / name, [made], {}, {"x": image.shape}, ["y"])
        answers += answered(Caffe2Platform().load(M1, str(path)), {"x": image})
    np.testing.assert_array_equal(*answers)


def test_the_least_integer_is_divided_by_minus_one(tmp_path: Path):
    """Which ended the process in onnxruntime."""
    divided = operator("Div", ["x", "w"], ["y"], broadcast=1)
    made = save(tmp_path, [divided], {}, {"x": (2, 3), "w": (3,)}, ["y"])
    declared = {name: [10, list(shape)] for name, shape in {"x": (2, 3), "w": (3,)}.items()}
    (tmp_path / "value_inputs.json").write_text(json.dumps(declared))
    x, w = np.array([[-(2**63), 7, -7], [8, 9, 10]]), np.array([-1, 2, -1])
    (found,) = answered(Caffe2Platform().load(M1, str(made)), {"x": x, "w": w})
    np.testing.assert_array_equal(found, [[-(2**63), 3, 7], [-8, 4, -10]])


def test_weights_may_be_outputs(tmp_path: Path):
    path = save(tmp_path, [operator("Relu", ["x"], ["y"])], {"w": ROWS}, {"x": (1, 4)}, ["y", "w"])
    _, weight = answered(Caffe2Platform().load(M1, str(path)), {"x": ROWS[:1]})
    np.testing.assert_array_equal(weight, ROWS)


def test_what_no_output_needs_is_left_out(tmp_path: Path):
    path = of_rows(
        tmp_path,
        operator("Relu", ["x"], ["y"]),
        operator("FC", ["x", "w", "b"], ["z"]),
        w=numbers(5, 4),
        b=numbers(5),
    )
    model = caffe2_to_onnx(path)
    assert not model.graph.initializer
    assert {node.op_type for node in model.graph.node} == {"Relu", "Identity"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (operator("Relu", ["z"], ["y"]), "it reads 'z', which is neither filled nor input"),
        (operator("Relu", ["y"], ["y"]), "it reads 'y', which is neither filled nor input"),
        (operator("Relu", ["x"], ["z"]), "nothing writes the output 'y'"),
        (operator("Relu", [], ["y"]), "it has 0 inputs, and needs 1"),
        (operator("Conv", ["x", "x"], ["y"]), "it needs a window, and has [0, 0]"),
        (operator("MaxPool", ["x"], ["y"], kernel=2, pads=[1]), "pad can not be [1]"),
        (operator("MaxPool", ["x"], ["y"], kernel=2, legacy_pad=9), "there is no legacy_pad 9"),
        (operator("MaxPool", ["x"], ["y"], kernel=2, order="NWHC"), "there is no order 'NWHC'"),
        (operator("MaxPool", ["x"], ["y"], kernel="2"), "argument 'kernel' is not one integer"),
        (operator("MaxPool", ["x"], ["y"], kernel=2), "ONNX's MaxPool does not take it"),
        (operator("Concat", ["x", "x"], ["y"], axis=5), "axis 5 is none of 2 dimensions"),
        (operator("Cast", ["x"], ["y"], to="tensor"), "the type TENSOR, which is not supported"),
        (operator("Add", ["x", "x"], ["y"], broadcast=1, axis=2), "broadcast from dimension 2"),
        (operator("ConstantFill", [], ["y"], shape=[2**40, 2**40]), "can not have the shape"),
        (operator("ConstantFill", [], ["y"], shape=[2**62] * 999), "not have 999 dimensions"),
        (operator("GivenTensorFill", [], ["y"], shape=[1] * 33), "not have 33 dimensions"),
        (operator("ConstantFill", [], ["y"], shape=[-1]), "can not have the shape [-1]"),
        (operator("GivenTensorFill", [], ["y"], shape=[3], values=[1.0]), "1 values for the shape"),
        (operator("GivenTensorIntFill", [], ["y"], shape=[1], values=[2**40]), "do not fit"),
        (operator("ConstantFill", [], ["y"], shape=[0, 2**62]), "do not fit"),
        (operator("ExpandDims", ["x"], ["y"]), "not those of a Unsqueeze"),
        (operator("Squeeze", ["x"], ["y"]), "not those of a Squeeze"),
        (operator("PadImage", ["x"], ["y"], pads=[1, 2]), "do not fit"),
        (operator("ConvTranspose", ["x", "x"], ["y"], kernel=2, group=0), "be in 0 groups"),
    ],
)
def test_an_operator_that_can_not_be_read_is_told_of(tmp_path: Path, wrong: OperatorDef, said: str):
    message = refusal(of_rows(tmp_path, wrong))
    assert said in message
    assert message.startswith("predict_net.pb: ")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (operator("MadeUp", ["x"], ["y"]), "MadeUp of 'y': the operator is not supported"),
        (operator("XavierFill", [], ["y"], shape=[4]), "fills weights with random values"),
        (operator("SpatialBN", ["x"] * 5, ["y"]), "it normalises as in training"),
    ],
)
def test_what_is_not_for_serving_is_refused_by_name(tmp_path: Path, wrong: OperatorDef, said: str):
    assert said in refusal(of_rows(tmp_path, wrong), FailedPrecondition)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be an object"),
        ("{", "is no JSON"),
        ('{"x": [1]}', "x must be [element type, [sizes]]"),
        ('{"x": [99, [1]]}', "not [99, [1]]"),
        ('{"x": [1, [-2]]}', "not [1, [-2]]"),
        ('{"z": [1, [1, 4]]}', "it reads 'x', which is neither filled nor input"),
    ],
)
def test_value_inputs_that_say_nothing_are_refused(tmp_path: Path, text: str, said: str):
    path = of_rows(tmp_path, operator("Relu", ["x"], ["y"]))
    (tmp_path / "value_inputs.json").write_text(text)
    assert said in refusal(path)


def test_without_value_inputs_the_inputs_are_asked_for(tmp_path: Path):
    path = of_rows(tmp_path, operator("FC", ["x", "w", "b"], ["y"]), w=ROWS, b=numbers(3))
    (tmp_path / "value_inputs.json").unlink()
    assert refusal(path) == (
        "signature.json or value_inputs.json has to give the types and shapes of x"
    )


def test_an_output_that_is_an_input_is_refused(tmp_path: Path):
    path = save(tmp_path, [operator("Relu", ["x"], ["y"])], {}, {"x": (1, 4)}, ["y", "x"])
    assert refusal(str(path)) == "'x' is an input and an output as well"


@pytest.mark.parametrize("file", ["init_net.pb", "predict_net.pb"])
def test_a_net_that_is_missing_is_named(tmp_path: Path, file: str):
    path = of_rows(tmp_path, operator("Relu", ["x"], ["y"]))
    (tmp_path / file).unlink()
    expected = f"a version is init_net.pb and predict_net.pb, but there is no {file}"
    assert refusal(path, NotFound) == expected
    with pytest.raises(NotFound):
        Caffe2Platform().estimate(path)


def test_a_net_without_outputs_is_refused(tmp_path: Path):
    path = save(tmp_path, [operator("Relu", ["x"], ["y"])], {}, {"x": (1, 4)}, [])
    assert refusal(str(path)) == "predict_net.pb names no external_output"


def test_devices_are_those_of_onnx(tmp_path: Path):
    path = of_rows(tmp_path, operator("Relu", ["x"], ["y"]))
    Caffe2Platform().load(M1, path, CPU).close()
    with pytest.raises(FailedPrecondition):
        Caffe2Platform().load(M1, path, Device("tpu", 0))


def test_it_is_told_from_its_files_beside_frozen_graphs(tmp_path: Path):
    path = written(tmp_path, NET)
    assert platform_of(path) == "caffe2"
    assert Caffe2Platform().estimate(path).quantities
