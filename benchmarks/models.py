"""What is asked in the measurements: small models, exported on the fly, and one request of each.

A case is one request that is sent again and again. Its model is exported as a SavedModel when the
case is made, and the same function answers in this process what the servers must answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import classification_pb2, predict_pb2

_NUM_FEATURES = 1000
_MLP_UNITS = (128, 128, 128, 64, 64, 1, 1)
_MLP_INPUTS = 42
_IMAGE_SHAPE = (224, 224, 3)
_BLOCK_MEGABYTES = 16
_BLOCK_FLOATS = _BLOCK_MEGABYTES * 2**20 // 4


@dataclass(frozen=True, slots=True)
class Case:
    """One request to one model. ``expected``: the values of the only output, float32.

    ``rows`` are the input as an array, for wires without protobuf; None where there is none.
    """

    name: str
    model: str
    method: str
    request: Message
    expected: np.ndarray
    rows: np.ndarray | None = None

    @property
    def path(self) -> str:
        return f"/tensorflow.serving.PredictionService/{self.method}"

    def check(self, answer: bytes) -> None:
        """Raise AssertionError where the serialized response does not hold what is expected."""
        np.testing.assert_allclose(_VALUES[self.method](answer), self.expected, rtol=1e-5)


def half_plus_two(models: Path) -> Case:
    """Three floats, y = x / 2 + 2: next to nothing to compute."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 0.5 * x + 2.0}

    rows = np.array([1.0, 2.0, 5.0], np.float32)
    return _predict_case("half_plus_two", "half_plus_two", models, predict, rows)


def mlp(models: Path) -> Case:
    """One row of 42 floats through seven dense layers, as TFaaS was measured; random weights."""
    random = np.random.default_rng(0)
    sizes = (_MLP_INPUTS, *_MLP_UNITS)
    weights = [
        tf.constant(random.normal(0, (2 / inputs) ** 0.5, (inputs, units)), tf.float32)
        for inputs, units in pairwise(sizes)
    ]

    @tf.function(input_signature=[tf.TensorSpec([None, _MLP_INPUTS], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for weight in weights[:-1]:
            x = tf.nn.relu(x @ weight)
        return {"y": tf.sigmoid(x @ weights[-1])}

    rows = random.random((1, _MLP_INPUTS), np.float32)
    return _predict_case("mlp", "mlp", models, predict, rows)


def image_content(models: Path) -> Case:
    """One image of 224 x 224 x 3 floats in ``tensor_content``, averaged."""
    return _image("image_content", models)


def image_floats(models: Path) -> Case:
    """The same image in ``float_val``."""
    case = _image("image_floats", models)
    tensor = case.request.inputs["x"]
    tensor.float_val.extend(case.rows.ravel())
    tensor.ClearField("tensor_content")
    return case


def classify(models: Path) -> Case:
    """Classify of one Example with a thousand features, whose score is their sum."""
    names = [f"feature_{index}" for index in range(_NUM_FEATURES)]
    columns = {name: tf.io.FixedLenFeature([1], tf.float32) for name in names}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def predict(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_example(inputs, columns)
        return {"scores": tf.concat([features[name] for name in names], 1) @ ones}

    ones = tf.ones((_NUM_FEATURES, 1))
    tf.saved_model.save(tf.Module(), str(models / "classify" / "1"), signatures=predict)
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "classify"
    features = request.input.example_list.examples.add().features.feature
    for index, name in enumerate(names):
        features[name].float_list.value.append(index % 10)
    return Case(
        "classify",
        "classify",
        "Classify",
        request,
        np.array([sum(index % 10 for index in range(_NUM_FEATURES))], np.float32),
    )


def large(models: Path, megabytes: int) -> Case:
    """One float through a model that reads all of its variables, so many megabytes of them."""
    module = tf.Module()
    module.blocks = [
        tf.Variable(tf.ones([_BLOCK_FLOATS])) for _ in range(0, megabytes, _BLOCK_MEGABYTES)
    ]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + tf.add_n([tf.reduce_mean(block) for block in module.blocks])}

    rows = np.array([1.0], np.float32)
    return _predict_case("large", "large", models, predict, rows, module=module)


CASES: Mapping[str, Callable[[Path], Case]] = {
    exporter.__name__: exporter
    for exporter in (half_plus_two, mlp, image_content, image_floats, classify)
}
"""Each exports its model below the directory it is given, and makes the request."""


def predict_request(model: str, rows: np.ndarray) -> predict_pb2.PredictRequest:
    """What asks the model for its answer to the input ``x``, in ``tensor_content``."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(
        TensorProto(
            dtype=tf.as_dtype(rows.dtype).as_datatype_enum,
            tensor_shape=tf.TensorShape(rows.shape).as_proto(),
            tensor_content=rows.tobytes(),
        )
    )
    return request


def predicted(answer: bytes) -> np.ndarray:
    """The output ``y`` of a serialized PredictResponse."""
    response = predict_pb2.PredictResponse.FromString(answer)
    return tf.make_ndarray(response.outputs["y"])


def _image(name: str, models: Path) -> Case:
    @tf.function(input_signature=[tf.TensorSpec([None, *_IMAGE_SHAPE], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_mean(x, axis=[1, 2, 3])}

    rows = np.random.default_rng(0).random((1, *_IMAGE_SHAPE), np.float32)
    return _predict_case(name, "mean", models, predict, rows)


def _predict_case(
    name: str,
    model: str,
    models: Path,
    predict: Callable[..., Mapping],
    rows: np.ndarray,
    *,
    module: tf.Module | None = None,
) -> Case:
    version = models / model / "1"
    if not version.exists():
        tf.saved_model.save(module or tf.Module(), str(version), signatures=predict)
    request = predict_request(model, rows)
    return Case(name, model, "Predict", request, predict(rows)["y"].numpy(), rows)


def _scores(answer: bytes) -> np.ndarray:
    response = classification_pb2.ClassificationResponse.FromString(answer)
    return np.array([row.classes[0].score for row in response.result.classifications])


_VALUES: Mapping[str, Callable[[bytes], np.ndarray]] = {"Predict": predicted, "Classify": _scores}
