"""CatBoost's binary files are served, with categories as strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo
from serving.core.servable_id import ServableId

pytest.importorskip("catboost", reason="catboost is not installed")

import catboost

from serving.loaders.catboost_loader import CatBoostPlatform

__all__ = ["served"]

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
CASES = [
    PlatformCase("classes", "catboost", "model.cbm", writing(CLASSIFIER(**QUIET), data.CLASSES), X),
    PlatformCase("words", "catboost", "model.cbm", writing(CLASSIFIER(**QUIET), WORDS), X),
    PlatformCase("values", "catboost", "model.cbm", writing(REGRESSOR(**QUIET), data.VALUES), X),
    PlatformCase("categories", "catboost", "model.cbm", write_mixed, MIXED),
]


class TestCatBoost(PlatformTests):
    """Numbered and named classes, values, and features that are categories."""


def test_the_signature_has_the_models_features_and_classes(tmp_path: Path):
    write_mixed(tmp_path)
    servable = CatBoostPlatform().load(ServableId("m", 1), str(tmp_path))
    signature = servable.signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {
        "size": TensorInfo("size", DType.FLOAT, (None,)),
        "color": TensorInfo("color", DType.STRING, (None,)),
    }
    assert signature.outputs["predict"] == TensorInfo("predict", DType.INT64, (None,))
    assert signature.outputs["predict_proba"].shape == (None, 3)
