"""Models of tables in other formats: the same answers, by the same names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xgboost_old_models import old_models

from serving.cli import main as model_server
from serving.core.dtypes import DType
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.platforms import Platforms

ROWS = np.random.default_rng(1).random((60, 4))
CLASSES = (ROWS.sum(1) > 2).astype(int)


def loaded(platform: str, path: Path):
    return Platforms({}).get(platform).load(ServableId("m", 1), str(path))


def estimators():
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    pytest.importorskip("skops", reason="skops is not installed")
    from sklearn import ensemble, linear_model, pipeline, preprocessing  # noqa: PLC0415

    scaled = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression()
    )
    return {
        "linear": linear_model.LinearRegression().fit(ROWS, ROWS.sum(1)),
        "two targets": linear_model.LinearRegression().fit(ROWS, ROWS[:, :2]),
        "pipeline": scaled.fit(ROWS, CLASSES),
        "names of classes": linear_model.LogisticRegression().fit(
            ROWS, np.where(CLASSES == 1, "much", "little")
        ),
        "forest": ensemble.RandomForestRegressor(5).fit(ROWS, ROWS.sum(1)),
    }


@pytest.mark.parametrize(
    "name", ["linear", "two targets", "pipeline", "names of classes", "forest"]
)
def test_an_estimator_becomes_an_onnx_model(name: str, tmp_path: Path):
    """In types and shapes, too."""
    estimator = estimators()[name]
    import skops.io  # noqa: PLC0415  # after the skip

    (tmp_path / "old").mkdir()
    skops.io.dump(estimator, tmp_path / "old" / "model.skops")
    arguments = [str(tmp_path / "old"), str(tmp_path / "new"), "--to=onnx"]
    trusted = "--trusted_skops_types=sklearn.tree._tree.Tree"
    assert model_server(["convert", *arguments, trusted]) == 0
    made = loaded("onnx", tmp_path / "new" / "1")
    signature = made.signatures["serving_default"]
    assert signature.inputs["x"].dtype is DType.DOUBLE
    outputs = dict(
        zip(signature.outputs, run_and_wait(made, {"x": ROWS}, [*signature.outputs]), strict=True)
    )
    expected = {"predict": estimator.predict(ROWS)}
    if hasattr(estimator, "predict_proba"):
        expected["predict_proba"] = estimator.predict_proba(ROWS)
    assert outputs.keys() == expected.keys()
    for alias, values in expected.items():
        if values.dtype.kind == "U":
            assert [label.decode() for label in outputs[alias]] == values.tolist()
        else:
            assert outputs[alias].dtype == values.dtype
            np.testing.assert_allclose(outputs[alias], values, rtol=1e-5)


def test_the_old_binary_format_of_xgboost_becomes_todays(tmp_path: Path):
    pytest.importorskip("xgboost", reason="xgboost is not installed")
    old = old_models()["0.90 softprob"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.bin").write_bytes(old.content)
    arguments = [str(tmp_path / "old"), str(tmp_path / "new"), "--to=ubj"]
    assert model_server(["convert", *arguments]) == 0
    made = loaded("xgboost", tmp_path / "new" / "1")
    (answer,) = run_and_wait(made, {"x": old.rows}, ["predict"])
    np.testing.assert_allclose(answer, old.answers, rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), [("json", "ubj"), ("ubj", "json")])
def test_formats_of_xgboost_become_each_other(old: str, new: str, tmp_path: Path):
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(ROWS, CLASSES), 3)
    (tmp_path / "old").mkdir()
    booster.save_model(tmp_path / "old" / f"model.{old}")
    arguments = [str(tmp_path / "old"), str(tmp_path / "new"), f"--to={new}"]
    assert model_server(["convert", *arguments]) == 0
    assert (tmp_path / "new" / "1" / f"model.{new}").is_file()
    made = loaded("xgboost", tmp_path / "new" / "1")
    (answer,) = run_and_wait(made, {"x": ROWS.astype(np.float32)}, ["predict"])
    np.testing.assert_array_equal(answer, booster.predict(xgboost.DMatrix(ROWS)))
