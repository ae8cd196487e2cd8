"""When two answers say the same: numbers nearly, all else exactly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.classification_pb2 import ClassificationResponse
from tensorflow_serving.apis.inference_pb2 import MultiInferenceResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionResponse

from serving.commands.answer_comparison import Tolerance, differences

TOLERANCE = Tolerance(relative=0.01, absolute=0.001)


def predicted(version: int = 1, **outputs: object) -> PredictResponse:
    response = PredictResponse()
    response.model_spec.version.value = version
    for alias, values in outputs.items():
        response.outputs[alias].CopyFrom(tf.make_tensor_proto(values))
    return response


def classified(*rows: list[tuple[str, float]]) -> ClassificationResponse:
    response = ClassificationResponse()
    for row in rows:
        classes = response.result.classifications.add().classes
        for label, score in row:
            classes.add(label=label, score=score)
    return response


def regressed(*values: float) -> RegressionResponse:
    response = RegressionResponse()
    for value in values:
        response.result.regressions.add(value=value)
    return response


def evaluated(value: float) -> MultiInferenceResponse:
    response = MultiInferenceResponse()
    response.results.add().classification_result.CopyFrom(classified([("a", 1.0)]).result)
    response.results.add().regression_result.CopyFrom(regressed(value).result)
    return response


def bfloat16(*values: float) -> np.ndarray:
    return np.array(values, ml_dtypes.bfloat16)


SAME = {
    "equal": (predicted(y=[1.0, 2.0]), predicted(y=[1.0, 2.0])),
    "another version": (predicted(version=1, y=1.0), predicted(version=2, y=1.0)),
    "near": (predicted(y=[100.0, 0.0]), predicted(y=[100.9, 0.0009])),
    "not numbers": (predicted(y=[np.nan, np.inf]), predicted(y=[np.nan, np.inf])),
    "texts": (predicted(y=[b"a"]), predicted(y=[b"a"])),
    "nothing": (predicted(y=np.zeros((0, 3))), predicted(y=np.zeros((0, 3)))),
    "bfloat16": (predicted(y=bfloat16(100)), predicted(y=bfloat16(100.5))),
    "classes": (classified([("a", 0.5)]), classified([("a", 0.5001)])),
    "no classes": (classified(), classified()),
    "values": (regressed(1.0), regressed(1.001)),
    "tasks": (evaluated(1.0), evaluated(1.001)),
}


@pytest.mark.parametrize(("before", "now"), SAME.values(), ids=SAME)
def test_answers_that_say_the_same(before: object, now: object):
    assert differences(before, now, TOLERANCE) == []


DIFFERENT = {
    "a number": (
        predicted(y=[[1.0, 2.0], [3.0, 4.0]]),
        predicted(y=[[1.0, 2.5], [4.5, 4.0]]),
        "output y: 2 of 4 values differ, the most at [1, 0]: 4.5, not 3.0",
    ),
    "a scalar": (
        predicted(y=1.0),
        predicted(y=2.0),
        "output y: 1 of 1 values differ, the most: 2.0, not 1.0",
    ),
    "no number any more": (
        predicted(y=[1.0, np.inf]),
        predicted(y=[np.nan, -np.inf]),
        "output y: 2 of 2 values differ, the most at [0]: nan, not 1.0",
    ),
    "bfloat16": (
        predicted(y=bfloat16(1)),
        predicted(y=bfloat16(2)),
        "output y: 1 of 1 values differ, the most at [0]: 2.0, not 1.0",
    ),
    "a whole number": (
        predicted(y=np.int64([1000, 7])),
        predicted(y=np.int64([1001, 7])),
        "output y: 1 of 2 values differ, the most at [0]: 1001, not 1000",
    ),
    "a text": (
        predicted(y=[b"a", b"b"]),
        predicted(y=[b"a", b"c"]),
        "output y: 1 of 2 values differ, the most at [1]: b'c', not b'b'",
    ),
    "a shape": (
        predicted(y=[1.0]),
        predicted(y=[1.0, 2.0]),
        "output y: has shape [2], not [1]",
    ),
    "a type": (
        predicted(y=np.float32([1])),
        predicted(y=np.float64([1])),
        "output y: has type float64, not float32",
    ),
    "an output less": (predicted(y=1.0), predicted(), "output y: is missing"),
    "an output more": (predicted(), predicted(y=1.0), "output y: is new"),
    "a label": (
        classified([("a", 0.5)]),
        classified([("b", 0.5)]),
        "labels: 1 of 1 values differ, the most at [0, 0]: b'b', not b'a'",
    ),
    "a value": (
        regressed(1.0),
        regressed(1.5),
        "values: 1 of 1 values differ, the most at [0]: 1.5, not 1.0",
    ),
    "a task": (
        evaluated(1.0),
        evaluated(1.5),
        "task 1, values: 1 of 1 values differ, the most at [0]: 1.5, not 1.0",
    ),
}


@pytest.mark.parametrize(("before", "now", "text"), DIFFERENT.values(), ids=DIFFERENT)
def test_answers_that_differ_and_how(before: object, now: object, text: str):
    assert differences(before, now, TOLERANCE) == [text]


def test_rows_of_other_lengths_have_another_shape():
    before, now = classified([("a", 0.5)]), classified([("a", 0.5), ("b", 0.1)])
    assert [text.partition(":")[0] for text in differences(before, now, TOLERANCE)] == [
        "labels",
        "scores",
    ]
