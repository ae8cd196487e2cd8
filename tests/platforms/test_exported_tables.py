"""Models of tables in the ways that other programs write them, as every platform's are served."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

from serving.loaders.sklearn_options import SklearnOptions

__all__ = ["served"]

Write = Callable[[Path], Mapping[str, np.ndarray]]
ROWS, ASKED = data.ROWS.astype(np.float64), data.ASKED.astype(np.float64)
SIZES = np.array(["small", "mid", "large"])[data.CLASSES]
TARGETS = np.stack([data.VALUES, data.VALUES * 2], axis=1)
CITIES = np.array(["Paris", "Rome", "Oslo"], np.object_)[data.CLASSES]
TEXTS = np.array(["a good day", "a bad day now", "night"], np.object_)[data.CLASSES]
SMALL = {"iterations": 3, "verbose": 0, "allow_writing_files": False}


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


def as_bytes(texts: Any) -> np.ndarray:
    return np.array([text.encode() for text in texts], np.object_)


def skl2onnx_classifier(directory: Path) -> Mapping[str, np.ndarray]:
    """Probabilities are maps from classes, as the converter has it unless told otherwise."""
    estimator = library("sklearn.linear_model").LogisticRegression().fit(data.ROWS, SIZES)
    model = library("skl2onnx").to_onnx(estimator, data.ROWS[:1])
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    scores = estimator.predict_proba(data.ASKED).astype(np.float32)
    return {"output_label": estimator.predict(data.ASKED), "output_probability": scores}


def skl2onnx_columns(directory: Path) -> Mapping[str, np.ndarray]:
    """Each column of a data frame is an input with one feature."""
    frame = library("pandas").DataFrame({"age": data.ROWS[:, 0], "city": CITIES})
    estimator = of_columns(frame)
    options = {"zipmap": False}
    model = library("skl2onnx").to_onnx(estimator, frame[:1], options=options)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    scores = estimator.predict_proba(frame[:2]).astype(np.float32)
    return {"label": estimator.predict(frame[:2]), "probabilities": scores}


def of_columns(frame: Any) -> Any:
    make_columns = library("sklearn.compose").make_column_transformer
    scaler = library("sklearn.preprocessing").StandardScaler()
    encoder = library("sklearn.preprocessing").OneHotEncoder(handle_unknown="ignore")
    classifier = library("sklearn.linear_model").LogisticRegression()
    columns = make_columns((scaler, ["age"]), (encoder, ["city"]))
    return library("sklearn.pipeline").make_pipeline(columns, classifier).fit(frame, SIZES)


def onnxmltools_lightgbm(directory: Path) -> Mapping[str, np.ndarray]:
    lightgbm, onnxmltools = library("lightgbm"), library("onnxmltools")
    types = library("onnxmltools.convert.common.data_types")
    estimator = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(data.ROWS, data.VALUES)
    initial = [("x", types.FloatTensorType([None, 4]))]
    model = onnxmltools.convert_lightgbm(estimator, initial_types=initial)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return {"variable": estimator.predict(data.ASKED).astype(np.float32)[:, np.newaxis]}


def catboost_onnx(directory: Path) -> Mapping[str, np.ndarray]:
    estimator = library("catboost").CatBoostClassifier(**SMALL).fit(data.ROWS, data.CLASSES)
    estimator.save_model(str(directory / "model.onnx"), format="onnx")
    scores = estimator.predict_proba(data.ASKED).astype(np.float32)
    return {"label": estimator.predict(data.ASKED)[:, 0], "probabilities": scores}


def sklearn_frame(directory: Path) -> Mapping[str, np.ndarray]:
    frame = library("pandas").DataFrame({"age": ROWS[:, 0], "city": CITIES})
    estimator = of_columns(frame)
    library("joblib").dump(estimator, directory / "model.joblib")
    column = {"dtype": "string", "shape": [None]}
    inputs = {"age": {"dtype": "double", "shape": [None]}, "city": column}
    (directory / "signature.json").write_text(json.dumps({"inputs": inputs}))
    return probabilities(estimator, frame[:2])


def probabilities(estimator: Any, rows: Any) -> Mapping[str, np.ndarray]:
    names = ("predict", "predict_proba", "predict_log_proba")
    return {name: getattr(estimator, name)(rows) for name in names}


def sklearn_clusters(directory: Path) -> Mapping[str, np.ndarray]:
    estimator = library("sklearn.cluster").KMeans(3, n_init=1, random_state=0).fit(ROWS)
    library("skops.io").dump(estimator, directory / "clusters.skops")
    return {"predict": estimator.predict(ASKED)}


def sklearn_outliers(directory: Path) -> Mapping[str, np.ndarray]:
    library("skops")  # which the platform needs for any of its files
    estimator = (
        library("sklearn.ensemble").IsolationForest(n_estimators=5, random_state=0).fit(ROWS)
    )
    library("joblib").dump(estimator, directory / "model.joblib")
    return {"predict": estimator.predict(ASKED)}


def xgboost_file(make: Callable[[Any], Any], labels: Any, answer: str = "predict") -> Write:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        estimator = make(library("xgboost"))
        last = slice(150, None)
        checked = {"eval_set": [(data.ROWS[last], labels[last])], "verbose": False}
        estimator.fit(data.ROWS[:150], labels[:150], **checked)
        estimator.save_model(directory / "model.json")
        return {"predict": np.asarray(getattr(estimator, answer)(data.ASKED))}

    return write


def stopped_early(xgboost: Any) -> Any:
    """Far more trees than are any better."""
    return xgboost.XGBRegressor(n_estimators=60, learning_rate=0.9, early_stopping_rounds=5)


def xgboost_categories(directory: Path) -> Mapping[str, np.ndarray]:
    pandas, xgboost = library("pandas"), library("xgboost")
    frame = pandas.DataFrame({"age": data.ROWS[:, 0], "city": pandas.Categorical(CITIES)})
    estimator = xgboost.XGBClassifier(n_estimators=3, enable_categorical=True)
    estimator.fit(frame, data.CLASSES).save_model(directory / "model.ubj")
    return {"predict": estimator.predict_proba(frame[:2])}


def lightgbm_categories(directory: Path) -> Mapping[str, np.ndarray]:
    pandas, lightgbm = library("pandas"), library("lightgbm")
    frame = pandas.DataFrame({"age": ROWS[:, 0], "city": pandas.Categorical(CITIES)})
    estimator = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(frame, SIZES)
    estimator.booster_.save_model(directory / "model.txt")
    return {"predict": estimator.predict_proba(frame[:2])}


def catboost_words(directory: Path) -> Mapping[str, np.ndarray]:
    rows = [
        [float(each), city, text]
        for each, city, text in zip(ROWS[:, 0], CITIES, TEXTS, strict=True)
    ]
    estimator = library("catboost").CatBoostClassifier(cat_features=[1], text_features=[2], **SMALL)
    estimator.fit(rows, SIZES).save_model(str(directory / "model.cbm"))
    found = probabilities(estimator, rows[:2])
    return {**found, "predict": found["predict"][:, 0]}


PICKLES = {
    "flags": ("--allow_pickle_models",),
    "options": SklearnOptions(allow_pickle=True),
    "allows_code": True,
}
X, COLUMNS = {"x": ASKED}, {"age": data.ASKED[:, :1], "city": as_bytes(CITIES[:2])[:, np.newaxis]}
CODES = np.array([["Oslo", "Paris", "Rome"].index(city) for city in CITIES[:2]])
CODED = {"x": np.stack([ROWS[:2, 0], CODES], axis=1)}
WORDS = {
    "0": data.ASKED[:, 0],
    "1": as_bytes(CITIES[:2]),
    "2": as_bytes(TEXTS[:2]),
}
FLOATS = {"x": data.ASKED}
CASES = [
    PlatformCase(
        "skl2onnx", "onnx", "model.onnx", skl2onnx_classifier, {"X": data.ASKED}, tolerance=1e-5
    ),
    PlatformCase(
        "skl2onnx of columns", "onnx", "model.onnx", skl2onnx_columns, COLUMNS, tolerance=1e-5
    ),
    PlatformCase("onnxmltools", "onnx", "model.onnx", onnxmltools_lightgbm, FLOATS, tolerance=1e-5),
    PlatformCase(
        "CatBoost's ONNX",
        "onnx",
        "model.onnx",
        catboost_onnx,
        {"features": data.ASKED},
        tolerance=1e-5,
    ),
    PlatformCase(
        "data frame",
        "sklearn",
        "model.joblib",
        sklearn_frame,
        {"age": ROWS[:2, 0], "city": as_bytes(CITIES[:2])},
        **PICKLES,
    ),
    PlatformCase(
        "clusters", "sklearn", "clusters.skops", sklearn_clusters, X, options=SklearnOptions()
    ),
    PlatformCase("outliers", "sklearn", "model.joblib", sklearn_outliers, X, **PICKLES),
    PlatformCase(
        "stopped early", "xgboost", "model.json", xgboost_file(stopped_early, data.VALUES), FLOATS
    ),
    PlatformCase(
        "several targets",
        "xgboost",
        "model.json",
        xgboost_file(lambda xgboost: xgboost.XGBRegressor(n_estimators=3), TARGETS),
        FLOATS,
    ),
    PlatformCase(
        "XGBoost's categories",
        "xgboost",
        "model.ubj",
        xgboost_categories,
        {"x": CODED["x"].astype(np.float32)},
    ),
    PlatformCase("LightGBM's categories", "lightgbm", "model.txt", lightgbm_categories, CODED),
    PlatformCase("words", "catboost", "model.cbm", catboost_words, WORDS, tolerance=1e-9),
]


class TestExportedTables(PlatformTests):
    """Of converters to ONNX, and of each library with what its simplest models do not have."""
