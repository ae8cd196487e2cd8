"""Logistic regression as Spark MLlib computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.core.errors import InvalidArgument, Unimplemented
from serving.core.servable import Outputs
from serving.loaders.spark_files import matrix, vector

_CLASS = "org.apache.spark.ml.classification.LogisticRegressionModel"


@dataclass(frozen=True, slots=True)
class Columns:
    """What the model calls its columns of a data frame; an output without a name is not made."""

    features: str = "features"
    prediction: str = "prediction"
    probability: str = "probability"
    raw_prediction: str = "rawPrediction"


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """``coefficients`` has the shape (sets, features), ``intercepts`` (sets,): one set for each
    class of a multinomial model, else one. ``thresholds`` has one for each class, ``threshold`` is
    that of a model which is not multinomial.
    """

    coefficients: np.ndarray
    intercepts: np.ndarray
    is_multinomial: bool
    thresholds: np.ndarray | None
    threshold: float
    columns: Columns

    @property
    def num_features(self) -> int:
        return int(self.coefficients.shape[1])

    @property
    def num_classes(self) -> int:
        return len(self.coefficients) if self.is_multinomial else 2

    def margins(self, features: np.ndarray) -> np.ndarray:
        """Doubles of the shape (rows, sets), for features of the shape (rows, features)."""
        return np.asarray(features @ self.coefficients.T + self.intercepts)

    def sparse_margins(
        self, num_rows: int, rows: np.ndarray, features: np.ndarray, values: np.ndarray
    ) -> np.ndarray:
        """The same, for values of these rows and features; those of a pair add up, others are 0.

        Takes memory for what is given, not for what is not.
        """
        margins = np.tile(self.intercepts, (num_rows, 1))
        for number, coefficients in enumerate(self.coefficients):
            margins[:, number] += np.bincount(rows, values * coefficients[features], num_rows)
        return margins

    def answers(self, margins: np.ndarray, fetches: Sequence[str]) -> Outputs:
        """Columns by their names, of doubles."""
        raw = margins if self.is_multinomial else np.hstack([-margins, margins])
        probabilities = self._probabilities(raw)
        found = {
            self.columns.prediction: self._predictions(raw, probabilities),
            self.columns.probability: probabilities,
            self.columns.raw_prediction: raw,
        }
        return [found[fetch] for fetch in fetches]

    def _probabilities(self, raw: np.ndarray) -> np.ndarray:
        if not self.is_multinomial:
            with np.errstate(over="ignore"):
                first = 1 / (1 + np.exp(-raw[:, 0]))
            return np.column_stack([first, 1 - first])
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def _predictions(self, raw: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """The number of the class of each row."""
        classes: np.ndarray
        with np.errstate(divide="ignore", invalid="ignore"):
            if not self.is_multinomial:
                threshold = np.float64(self.threshold)
                classes = raw[:, 1] > np.log(threshold / (1 - threshold))
            elif self.thresholds is None:
                classes = raw.argmax(axis=1)
            else:
                scaled = probabilities / self.thresholds
                scaled[np.isnan(scaled)] = -np.inf  # neither likely nor hard to reach: never taken
                classes = scaled.argmax(axis=1)
        return classes.astype(np.float64)


def check_class(metadata: Mapping[str, Any]) -> None:
    """Raise Unimplemented for a model of another class."""
    if metadata["class"] != _CLASS:
        raise Unimplemented(
            f"a model of Spark of the class {metadata['class']} is not served from its own files, "
            f"but {_CLASS} is; others can be exported to PMML or ONNX"
        )


def logistic_regression(metadata: Mapping[str, Any], row: Mapping[str, Any]) -> LogisticRegression:
    """The model that was saved. Raises InvalidArgument for what does not fit together."""
    try:
        return _read({**metadata["defaultParamMap"], **metadata["paramMap"]}, row)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidArgument(
            f"the model's files are not those of a {_CLASS}: {type(error).__name__}: {error}"
        ) from error


def _read(parameters: Mapping[str, Any], row: Mapping[str, Any]) -> LogisticRegression:
    if "coefficientMatrix" in row:
        coefficients, intercepts = matrix(row["coefficientMatrix"]), vector(row["interceptVector"])
        is_multinomial = bool(row["isMultinomial"])
    else:  # as Spark 2.0 wrote it
        coefficients = vector(row["coefficients"])[np.newaxis]
        intercepts, is_multinomial = np.array([row["intercept"]], np.float64), False
    num_sets = int(row["numClasses"]) if is_multinomial else 1
    if coefficients.shape != (num_sets, int(row["numFeatures"])) or len(intercepts) != num_sets:
        raise ValueError("coefficients and intercepts are not as many as the classes and features")
    thresholds = _thresholds(parameters, int(row["numClasses"]))
    threshold = float(parameters.get("threshold", 0.5))
    if thresholds is not None and not is_multinomial:
        threshold = float(1 / (1 + thresholds[0] / thresholds[1]))
    return LogisticRegression(
        coefficients, intercepts, is_multinomial, thresholds, threshold, _columns(parameters)
    )


def _thresholds(parameters: Mapping[str, Any], num_classes: int) -> np.ndarray | None:
    if parameters.get("thresholds") is None:
        return None
    thresholds = np.array(parameters["thresholds"], np.float64)
    if thresholds.shape != (num_classes,):
        raise ValueError("thresholds are not as many as the classes")
    return thresholds


def _columns(parameters: Mapping[str, Any]) -> Columns:
    usual = Columns()
    columns = Columns(
        features=parameters.get("featuresCol", usual.features),
        prediction=parameters.get("predictionCol", usual.prediction),
        probability=parameters.get("probabilityCol", usual.probability),
        raw_prediction=parameters.get("rawPredictionCol", usual.raw_prediction),
    )
    outputs = (columns.prediction, columns.probability, columns.raw_prediction)
    if not all(isinstance(name, str) for name in (columns.features, *outputs)):
        raise ValueError("columns have names that are no texts")
    if not columns.features or not any(outputs):
        raise ValueError("columns have no names")
    return columns
