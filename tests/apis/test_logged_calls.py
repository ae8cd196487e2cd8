"""REST calls that wait for the request log: what they keep in memory, and what they say of it."""

from __future__ import annotations

import sys
import weakref

import numpy as np
import pytest
from tensorflow_serving.apis.classification_pb2 import ClassificationResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionResponse

from serving.apis.tensorflow_serving.rest.logged_calls import (
    logged_classify,
    logged_predict,
    logged_regress,
)
from serving.core.request_log import LoggedCall
from serving.core.servable_id import ServableId
from serving.inference.classify import ClassifyResult
from serving.inference.predict import PredictResult
from serving.inference.regress import RegressResult

M3 = ServableId("m", 3)
LONG = b"x" * 1000
ROWS = 8


def test_a_call_with_strings_has_the_size_of_the_strings():
    inputs = {"x": np.array([LONG, LONG + b"y"], object)}
    call = logged_predict(inputs, PredictResult(M3, "s", {"y": np.array([[LONG]], object)}))
    assert call.size_bytes == 3 * 8 + 3 * sys.getsizeof(LONG) + 1


def test_a_call_with_numbers_has_the_size_of_its_arrays():
    inputs = {"x": np.zeros((2, 3), np.float32)}
    call = logged_predict(inputs, PredictResult(M3, "s", {"y": np.zeros(5, np.int64)}))
    assert call.size_bytes == 2 * 3 * 4 + 5 * 8


def test_a_classification_has_the_size_of_its_examples_and_its_answer():
    classes = np.array([[LONG, b"b"]], object)
    result = ClassifyResult(M3, "s", classes, np.zeros((1, 2), np.float32), 1)
    strings = 2 * 8 + sys.getsizeof(LONG) + sys.getsizeof(b"b")
    assert logged_classify([b"abc"], result).size_bytes == 3 + strings + 2 * 4
    only_scores = ClassifyResult(M3, "s", None, np.zeros((1, 2), np.float32), 1)
    assert logged_classify([b"abc"], only_scores).size_bytes == 3 + 2 * 4


def test_a_regression_has_the_size_of_its_examples_and_its_answer():
    result = RegressResult(M3, "s", np.zeros(4, np.float32))
    assert logged_regress([b"abc", b"d"], result).size_bytes == 4 + 4 * 4


def of_predict(row: np.ndarray) -> LoggedCall:
    return logged_predict({}, PredictResult(M3, "s", {"y": row}))


def of_classify(row: np.ndarray) -> LoggedCall:
    return logged_classify([], ClassifyResult(M3, "s", None, row.reshape(1, 1), 1))


def of_regress(row: np.ndarray) -> LoggedCall:
    return logged_regress([], RegressResult(M3, "s", row))


ANSWERS = {
    of_predict: lambda data: PredictResponse.FromString(data).outputs["y"].float_val[0],
    of_classify: lambda data: (
        ClassificationResponse.FromString(data).result.classifications[0].classes[0].score
    ),
    of_regress: lambda data: RegressionResponse.FromString(data).result.regressions[0].value,
}


@pytest.mark.parametrize("logged", ANSWERS)
def test_a_call_does_not_keep_the_batch_that_its_answer_is_a_part_of(logged):
    batch = np.arange(ROWS, dtype=np.float32)
    kept = weakref.ref(batch)
    call = logged(batch[5:6])
    del batch
    assert kept() is None
    assert call.size_bytes == 4
    assert ANSWERS[logged](call.response()) == 5.0
