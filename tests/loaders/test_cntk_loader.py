"""CNTK's models compute what CNTK computes; what is wrong with their files is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cntk_cases import BLOCK, CASES, IMAGE, NET, ROWS, CntkCase, block
from cntk_models import (
    BATCH,
    FREE,
    SEQUENCE,
    Shape,
    content,
    function,
    model,
    value,
    variable,
    weight,
)
from onnx import checker

from serving.core.dtypes import DType
from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, Servable, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.cntk_loader import CntkPlatform
from serving.loaders.cntk_onnx import cntk_to_onnx
from serving.loaders.platform_detection import platform_of

M1 = ServableId("m", 1)
X = variable("x", [4])


def loaded(directory: Path, document: Mapping[str, Any] | bytes) -> Servable:
    written = document if isinstance(document, bytes) else content(document)
    (directory / "model.dnn").write_bytes(written)
    return CntkPlatform().load(M1, str(directory))


def answered(servable: Servable, x: np.ndarray) -> Mapping[str, np.ndarray]:
    names = list(servable.signatures[DEFAULT_SIGNATURE].outputs)
    return dict(zip(names, run_and_wait(servable, {"x": x}, names), strict=True))


def refusal(
    directory: Path,
    functions: Sequence[Mapping[str, Any]],
    variables: Sequence[Mapping[str, Any]] = (X,),
    kind: type[ServingError] = InvalidArgument,
) -> str:
    """Why a model whose root is the last function does not load."""
    with pytest.raises(kind) as raised:
        loaded(directory, model(functions[-1]["uid"], functions, variables))
    return raised.value.message


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_function_computes_what_cntk_computes(case: CntkCase, tmp_path: Path):
    found = answered(loaded(tmp_path, case.content()), case.x)
    expected = case.answers()
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        np.testing.assert_allclose(found[name], values, 1e-4, 1e-5)


def test_what_is_converted_is_a_model_of_onnx(tmp_path: Path):
    (tmp_path / "model.model").write_bytes(NET.content())
    checker.check_model(cntk_to_onnx(str(tmp_path)), full_check=True)


def test_the_signature_has_the_names_and_sizes_of_the_model(tmp_path: Path):
    signature = loaded(tmp_path, NET.content()).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"x": TensorInfo("x", DType.FLOAT, (None, 3, 7, 6))}
    assert signature.outputs == {
        "scores": TensorInfo("scores", DType.FLOAT, (None, 3)),
        "dropped": TensorInfo("dropped", DType.FLOAT, (None, 3)),
    }


def test_the_functions_of_a_block_may_stand_within_it(tmp_path: Path):
    """Its argument is what is outside."""
    *inside, outer = BLOCK.functions
    key = "block_function_composite"
    nested = {**outer, key: {**outer[key], "primitive_functions": inside[1:]}}
    weights = [weight(uid, values) for uid, values in BLOCK.weights.items()]
    document = model("B", [inside[0], nested], [X, variable("a", [4], 4), *weights])
    found = answered(loaded(tmp_path, document), ROWS)
    np.testing.assert_allclose(found["scores"], BLOCK.answers()["scores"], 1e-5, 1e-6)


def test_an_output_without_a_name_is_called_as_cntk_calls_it(tmp_path: Path):
    servable = loaded(tmp_path, model("R", [function("R", 3, ["x"])], [X]))
    assert list(servable.signatures[DEFAULT_SIGNATURE].outputs) == ["R_Output_0"]


def test_doubles_and_free_sizes(tmp_path: Path):
    x = variable("x", [FREE, 2], data_type=2)
    servable = loaded(tmp_path, model("R", [function("R", 3, ["x"], "y")], [x]))
    info = servable.signatures[DEFAULT_SIGNATURE].inputs["x"]
    assert (info.dtype, info.shape) == (DType.DOUBLE, (None, None, 2))


def test_a_deep_network_loads(tmp_path: Path):
    deep = [function("F0", 3, ["x"])]
    deep += [function(f"F{n}", 3, [f"F{n - 1}_Output_0"]) for n in range(1, 1500)]
    found = answered(loaded(tmp_path, model("F1499", deep, [X])), ROWS)
    np.testing.assert_array_equal(found["F1499_Output_0"], np.maximum(ROWS, 0))


def test_a_file_is_told_from_one_of_xgboost_by_its_content(tmp_path: Path):
    (tmp_path / "model.model").write_bytes(NET.content())
    assert platform_of(str(tmp_path)) == "cntk"
    (tmp_path / "model.model").write_bytes(b'{"learner": {}}')
    assert platform_of(str(tmp_path)) == "xgboost"


def test_a_function_that_is_not_supported_is_named(tmp_path: Path):
    message = refusal(tmp_path, [function("RNN", 49, ["x"])], kind=FailedPrecondition)
    assert message == "function 'RNN': CNTK's operation 49 is not supported"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"axes": [SEQUENCE, BATCH]}, "sequences"),
        ({"is_sparse": True}, "sparse"),
        ({"data_type": 5}, "type 5"),
    ],
)
def test_inputs_that_are_not_supported_are_refused(
    tmp_path: Path, more: Mapping[str, Any], reason: str
):
    x = variable("x", [4], **more)
    message = refusal(tmp_path, [function("R", 3, ["x"])], [x], FailedPrecondition)
    assert message.startswith("variable 'x': ")
    assert reason in message


def test_weights_of_another_size_than_they_have_are_refused(tmp_path: Path):
    w = weight("w", ROWS)
    w["value"] = value(ROWS)
    w["value"].nd_array_view_value.shape.shape_dim[0] = 2**60
    add = function("F", 19, ["x", "w"])
    assert "have 8 values" in refusal(tmp_path, [add], [X, w])


def test_weights_that_are_something_else_are_refused(tmp_path: Path):
    w = weight("w", ROWS) | {"value": 1}
    add = function("F", 19, ["x", "w"])
    assert "nd_array_view_value" in refusal(tmp_path, [add], [X, w])


def test_a_circle_is_refused(tmp_path: Path):
    circle = [function("A", 3, ["B_Output_0"]), function("B", 3, ["A_Output_0"])]
    assert "depends on itself" in refusal(tmp_path, circle)


def test_a_block_that_is_its_own_argument_is_refused(tmp_path: Path):
    outer = block("B", "R", ["a"], a="a")
    assert "depends on itself" in refusal(tmp_path, [function("R", 3, ["a"]), outer])


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ([function("F", 3, ["nothing"])], "there is no 'nothing'"),
        ([function("F", 3, ["G_Output_0"])], "there is no function 'G'"),
        ([function("F", 3, [])], "function 'F': it has 0 inputs, and needs 1"),
        ([function("F", 16, ["x"], newShape=Shape((2**40,)))], "'newShape' has the size"),
        ([function("F", 16, ["x"], newShape=Shape((3,)))], "function 'F': "),
        ([function("F", 43, ["x", "x"])], "'axis' is missing"),
        ([function("F", 33, ["w", "x"])], "its inputs and attributes do not fit"),
        ([function("F", 31, ["x", "x"], outputRank=9)], "can not be summed over"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, functions: Sequence[Mapping[str, Any]], reason: str
):
    assert reason in refusal(tmp_path, functions, [X, weight("w", ROWS[0])])


def test_a_size_that_is_huge_is_refused(tmp_path: Path):
    x = variable("x", [2**40])
    assert "'shape' has the size" in refusal(tmp_path, [function("R", 3, ["x"])], [x])


def test_a_model_of_cntk_1_is_refused_as_such(tmp_path: Path):
    with pytest.raises(FailedPrecondition, match="CNTK 1"):
        loaded(tmp_path, "BCN".encode("utf-16-le") + bytes(100))


def test_an_image_may_be_any_batch(tmp_path: Path):
    servable = loaded(tmp_path, NET.content())
    whole, first = answered(servable, IMAGE), answered(servable, IMAGE[:1])
    np.testing.assert_allclose(first["scores"], whole["scores"][:1], 1e-5)
