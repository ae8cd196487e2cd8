"""What an estimator answers: the methods that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.core.errors import InvalidArgument
from serving.core.servable import Outputs
from serving.loaders.function_servable import Compute
from serving.loaders.sklearn_features import Features
from serving.loaders.tabular import PREDICT

_METHODS = (PREDICT, "predict_proba", "predict_log_proba")


def outputs_of(estimator: Any) -> Sequence[str]:
    """Its methods that predict. Raises InvalidArgument for what has no ``predict``."""
    if not callable(getattr(estimator, PREDICT, None)):
        raise InvalidArgument(f"the model is a {type(estimator).__name__}, which has no {PREDICT}")
    return [method for method in _METHODS if callable(getattr(estimator, method, None))]


def computing(estimator: Any, features: Features) -> Compute:
    """Calls those methods; a probability of 0 has the logarithm -inf without a warning."""

    def compute(feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
        arranged = features.arranged(feeds)
        with np.errstate(divide="ignore"):
            return [_one_array(getattr(estimator, fetch)(arranged)) for fetch in fetches]

    return compute


def _one_array(answer: Any) -> np.ndarray:
    """Several targets have an array each: (rows, classes) of each becomes (rows, targets, classes).

    A sparse matrix of scipy becomes a dense one. Raises ValueError where targets have different
    numbers of classes.
    """
    if isinstance(answer, list):
        return np.stack(answer, axis=1)
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
