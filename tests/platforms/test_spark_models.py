"""Models that Spark itself has trained and saved, or exported to PMML: the same answers."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("jpype", reason="jpype1 is not installed")
pytest.importorskip("java_needed", reason="Java is not installed")
pytest.importorskip("pypmml", reason="pypmml is not installed")
pytest.importorskip("pyspark", reason="pyspark is not installed")

from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession

__all__ = ["served"]

# Spark starts a Java program of its own, and trains each model.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PART = "data/part-00000.snappy.parquet"
FEATURES = data.ASKED.astype(np.float64)
FIELDS = {f"field_{place}": FEATURES[:, place] for place in range(4)}


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = session()  # without which not even an untrained model can be made
        yield
        started.stop()


@cache
def session() -> Any:
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def frame(labels: np.ndarray) -> Any:
    rows = zip(data.ROWS.astype(np.float64), labels, strict=True)
    return session().createDataFrame(
        [(Vectors.dense(features), float(label)) for features, label in rows],
        ["features", "label"],
    )


def answers(model: Any, names: tuple[str, ...]) -> Mapping[str, np.ndarray]:
    asked = session().createDataFrame([(Vectors.dense(row),) for row in FEATURES], ["features"])
    rows = model.transform(asked).collect()
    return {
        name: np.array([getattr(each[name], "values", each[name]) for each in rows])
        for name in names
    }


def logistic(labels: np.ndarray, **options: Any) -> Callable[[Path], Mapping[str, np.ndarray]]:
    @cache
    def trained() -> Any:
        return LogisticRegression(**options).fit(frame(labels))

    def write(directory: Path) -> Mapping[str, np.ndarray]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trained().write().overwrite().save(str(directory))
            (part,) = (directory / "data").glob("part-*.parquet")
            part.rename(directory / PART)
            return answers(trained(), ("prediction", "probability", "rawPrediction"))

    return write


def linear_as_pmml(directory: Path) -> Mapping[str, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LinearRegression().fit(frame(data.VALUES))
        model.write().format("pmml").save(str(directory / "exported"))
        shutil.copy(directory / "exported" / "part-00000", directory / "model.pmml")
        shutil.rmtree(directory / "exported")
        return {"predicted_target": answers(model, ("prediction",))["prediction"]}


TWO = data.CLASSES > 0
X = {"features": FEATURES}
CASES = [
    PlatformCase("two", "spark", PART, logistic(TWO, regParam=0.1), X, tolerance=1e-12),
    PlatformCase(
        "sparse",
        "spark",
        PART,
        logistic(data.CLASSES, regParam=0.1, elasticNetParam=1.0),
        X,
        tolerance=1e-12,
    ),
    PlatformCase(
        "thresholds",
        "spark",
        PART,
        logistic(data.CLASSES, regParam=0.1, thresholds=[0.9, 0.5, 0.1]),
        X,
        tolerance=1e-12,
    ),
    PlatformCase("pmml", "pmml", "model.pmml", linear_as_pmml, FIELDS, tolerance=1e-9),
]


class TestSparkModels(PlatformTests):
    """What Spark saved, and what it exported."""
