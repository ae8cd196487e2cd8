"""CatBoost's binary files are served, with categories as strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId

pytest.importorskip("catboost", reason="catboost is not installed")

import catboost

from serving.loaders.catboost_loader import CatBoostPlatform
from serving.loaders.native_options import NativeOptions

__all__ = ["served"]

M1 = ServableId("m", 1)
COLORS = np.array([color.encode() for color in data.COLORS], np.object_)
MIXED = {"size": data.ASKED[:, 0], "color": COLORS[:2]}
QUIET = {"iterations": 5, "verbose": False, "allow_writing_files": False, "thread_count": 1}


def outputs(model: Any, rows: Any) -> Mapping[str, np.ndarray]:
    """As the class that was trained answers."""
    found = {"predict": model.predict(rows)}
    if isinstance(model, catboost.CatBoostClassifier):
        found["predict_proba"] = model.predict_proba(rows)
        found["predict_log_proba"] = model.predict_log_proba(rows)
    return {
        name: values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
        for name, values in found.items()
    }


def writing(model: Any, labels: np.ndarray) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        model.fit(data.ROWS, labels)
        model.save_model(directory / "model.cbm")
        return outputs(model, data.ASKED)

    return write


def write_mixed(directory: Path) -> Mapping[str, np.ndarray]:
    rows = np.column_stack([data.ROWS[:, 0].astype(object), data.COLORS])
    pool = catboost.Pool(rows, data.CLASSES, cat_features=[1], feature_names=["size", "color"])
    model = catboost.CatBoostClassifier(**QUIET).fit(pool)
    model.save_model(directory / "model.cbm")
    return outputs(model, rows[:2])


X = {"x": data.ASKED}
WORDS = np.array(["low", "mid", "high"])[data.CLASSES]
CLASSIFIER, REGRESSOR = catboost.CatBoostClassifier, catboost.CatBoostRegressor
case = partial(PlatformCase, options=NativeOptions(probe=False))
"""Without a process for each damaged file: test_native_crashes.py has what needs one."""

CASES = [
    case("classes", "catboost", "model.cbm", writing(CLASSIFIER(**QUIET), data.CLASSES), X),
    case("words", "catboost", "model.cbm", writing(CLASSIFIER(**QUIET), WORDS), X),
    case("values", "catboost", "model.cbm", writing(REGRESSOR(**QUIET), data.VALUES), X),
    case("categories", "catboost", "model.cbm", write_mixed, MIXED),
]


class TestCatBoost(PlatformTests):
    """Numbered and named classes, values, and features that are categories."""


def test_the_signature_has_the_models_features_and_classes(tmp_path: Path):
    write_mixed(tmp_path)
    servable = CatBoostPlatform().load(M1, str(tmp_path))
    signature = servable.signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {
        "size": TensorInfo("size", DType.FLOAT, (None,)),
        "color": TensorInfo("color", DType.STRING, (None,)),
    }
    assert signature.outputs["predict"] == TensorInfo("predict", DType.INT64, (None,))
    assert signature.outputs["predict_proba"].shape == (None, 3)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidArgument) as raised:
        CatBoostPlatform().load(M1, str(path))
    return raised.value.message


def test_a_feature_with_a_name_that_is_no_text_is_refused(tmp_path: Path):
    write_mixed(tmp_path)
    file = tmp_path / "model.cbm"
    file.write_bytes(file.read_bytes().replace(b"color", b"\xff" * 5))
    assert refusal(tmp_path) == (
        "model.cbm is no whole model of CatBoost: a feature has a name that is no UTF-8"
    )


@pytest.mark.parametrize(
    ("size", "color", "message"),
    [
        ('"float", "shape": [null, 2]', '"string"', "inputs.size.shape must be [null], as it"),
        ('"float"', '"string", "shape": [3]', "inputs.color.shape must be [null], as it"),
        ('"string"', '"string"', "inputs.size.dtype can not be string: texts are"),
        ('"float"', '"float"', "inputs.color.dtype can not be float: texts are"),
    ],
)
def test_inputs_that_are_not_the_models_features_are_refused(
    tmp_path: Path, size: str, color: str, message: str
):
    write_mixed(tmp_path)
    (tmp_path / "signature.json").write_text(
        f'{{"inputs": {{"size": {{"dtype": {size}}}, "color": {{"dtype": {color}}}}}}}'
    )
    assert refusal(tmp_path).startswith(f"signature.json: {message}")


def test_declared_columns_are_joined_as_the_model_has_them(tmp_path: Path):
    expected = write_mixed(tmp_path)["predict_proba"]
    (tmp_path / "signature.json").write_text(
        '{"inputs": {"size": {"dtype": "double", "shape": [null, 1]},'
        ' "color": {"dtype": "string", "shape": [null, 1]}}}'
    )
    servable = CatBoostPlatform().load(M1, str(tmp_path))
    columns = {
        "size": MIXED["size"].astype(np.float64).reshape(-1, 1),
        "color": MIXED["color"].reshape(-1, 1),
    }
    (output,) = run_and_wait(servable, columns, ["predict_proba"])
    np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("shape", ["[null]", "[null, 1]"])
def test_a_category_may_be_an_integer_and_stand_alone(tmp_path: Path, shape: str):
    codes = data.CLASSES[:, np.newaxis] + 5
    model = REGRESSOR(**QUIET).fit(catboost.Pool(codes, data.VALUES, cat_features=[0]))
    model.save_model(tmp_path / "model.cbm")
    (tmp_path / "signature.json").write_text(
        f'{{"inputs": {{"0": {{"dtype": "int64", "shape": {shape}}}}}}}'
    )
    servable = CatBoostPlatform().load(M1, str(tmp_path))
    asked = codes[:9] if shape == "[null, 1]" else codes[:9, 0]
    (output,) = run_and_wait(servable, {"0": asked}, ["predict"])
    np.testing.assert_array_equal(output, model.predict(codes[:9]))
