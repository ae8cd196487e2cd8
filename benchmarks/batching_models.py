"""What is asked in the measurements of batching: models of different weight, and their requests.

Each request is one row. The models are exported as SavedModels with random weights, which cost as
much to compute as trained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf

import models
from batching_load import BatchingCase

_NUM_REQUESTS = 8
_DENSE_UNITS = 2048
_DENSE_LAYERS = 4
_IMAGE_SHAPE = (224, 224, 3)
_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
_EXPANSION = 4
_BRANCH_SCALE = 0.25
_NUM_CLASSES = 1000
_NUM_TOKENS = 8192
_TEXT_UNITS = (128, 256, 256)
_NUM_TEXTS = 64
_TEXT_LENGTHS = (16, 256)
_PADDING = 0


def check(case: BatchingCase, answers: Sequence[bytes]) -> None:
    """Raise AssertionError where these are not the serialized responses to all requests.

    In a batch, sums are added up in another order than alone: the last digits may differ.
    """
    for answer, expected in zip(answers, case.expected, strict=True):
        np.testing.assert_allclose(models.predicted(answer), expected, rtol=1e-3)


def mlp(directory: Path) -> BatchingCase:
    """42 floats through seven small layers: what is around the model costs more than it."""
    width = models.mlp(directory).rows.shape[1]
    return _case("mlp", directory, _random_rows((width,)))


def dense(directory: Path) -> BatchingCase:
    """Four layers of 2048 x 2048: one row reads 64 MiB of weights, and many rows no more."""
    random = np.random.default_rng(0)
    module = tf.Module()
    module.weights = [
        _variable(random, (_DENSE_UNITS, _DENSE_UNITS), _DENSE_UNITS) for _ in range(_DENSE_LAYERS)
    ]

    @tf.function(input_signature=[tf.TensorSpec([None, _DENSE_UNITS], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for weight in module.weights:
            x = tf.nn.relu(x @ weight)
        return {"y": tf.reduce_mean(x, axis=1)}

    _export("dense", directory, module, predict)
    return _case("dense", directory, _random_rows((_DENSE_UNITS,)))


def cnn(directory: Path) -> BatchingCase:
    """ResNet-50's convolutions on an image of 224 x 224 x 3: 25 M weights, 4 G multiplications.

    Without batch normalization, which a served model has in its convolutions.
    """
    network = _ResNet(np.random.default_rng(0))

    @tf.function(input_signature=[tf.TensorSpec([None, *_IMAGE_SHAPE], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": network(x)}

    _export("cnn", directory, network, predict)
    return _case(
        "cnn",
        directory,
        _random_rows(_IMAGE_SHAPE)[:2],
        most_in_flight=8,
        deadline_seconds=5.0,
        stretch=2.0,
    )


def text(directory: Path) -> BatchingCase:
    """From 16 to 256 tokens: embedded, through two layers, averaged.

    Every text begins with the token of padding, which counts for nothing: the server pads with
    the first element, so that an answer does not depend on what else is in the batch.
    """
    random = np.random.default_rng(0)
    module = tf.Module()
    module.embedding = _variable(random, (_NUM_TOKENS, _TEXT_UNITS[0]), 1)
    module.weights = [_variable(random, shape, shape[0]) for shape in pairwise(_TEXT_UNITS)]

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        counted = tf.cast(x != _PADDING, tf.float32)[:, :, tf.newaxis]
        y = tf.gather(module.embedding, x)
        for weight in module.weights:
            y = tf.nn.relu(tf.tensordot(y, weight, 1))
        y = tf.reduce_sum(y * counted, axis=1) / tf.reduce_sum(counted, axis=1)
        return {"y": tf.reduce_mean(y, axis=1)}

    _export("text", directory, module, predict)
    lengths = random.integers(*_TEXT_LENGTHS, _NUM_TEXTS, endpoint=True)
    texts = [random.integers(1, _NUM_TOKENS, (1, length), np.int32) for length in lengths]
    for tokens in texts:
        tokens[0, 0] = _PADDING
    return _case("text", directory, texts)


CASES: Mapping[str, Callable[[Path], BatchingCase]] = {
    exporter.__name__: exporter for exporter in (mlp, dense, cnn, text)
}
"""Each exports its model below the directory it is given, and makes the requests."""


class _ResNet(tf.Module):
    """The layers of ResNet-50 (v1.5: the strides are in the 3 x 3 convolutions)."""

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__()
        self.stem = _filters(random, 7, 3, _STAGES[0][1])
        self.blocks: list[list[tf.Variable]] = []
        width = _STAGES[0][1]
        for depth, units in _STAGES:
            for index in range(depth):
                out = units * _EXPANSION
                block = [
                    _filters(random, 1, width, units),
                    _filters(random, 3, units, units),
                    _filters(random, 1, units, out),
                ]
                if index == 0:
                    block.append(_filters(random, 1, width, out))
                self.blocks.append(block)
                width = out
        self.classes = _variable(random, (width, _NUM_CLASSES), width)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.nn.conv2d(x, self.stem, 2, "SAME"))
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for block in self.blocks:
            x = _bottleneck(x, block)
        return tf.nn.softmax(tf.reduce_mean(x, axis=[1, 2]) @ self.classes)


def _bottleneck(x: tf.Tensor, block: Sequence[tf.Variable]) -> tf.Tensor:
    """One residual block; the first of each stage but the first one halves the image."""
    down, middle, up, *shortcut = block
    is_halved = bool(shortcut) and shortcut[0].shape[2] != _STAGES[0][1]
    stride = 2 if is_halved else 1
    y = tf.nn.relu(tf.nn.conv2d(x, down, 1, "SAME"))
    y = tf.nn.relu(tf.nn.conv2d(y, middle, stride, "SAME"))
    y = tf.nn.conv2d(y, up, 1, "SAME")
    if shortcut:
        x = tf.nn.conv2d(x, shortcut[0], stride, "SAME")
    return tf.nn.relu(x + _BRANCH_SCALE * y)  # else the values grow with every block


def _filters(random: np.random.Generator, size: int, inputs: int, outputs: int) -> tf.Variable:
    return _variable(random, (size, size, inputs, outputs), size * size * inputs)


def _variable(random: np.random.Generator, shape: Sequence[int], inputs: int) -> tf.Variable:
    """Random weights that keep the size of what goes through them, as many inputs as it has."""
    return tf.Variable(random.standard_normal(shape, np.float32) * np.float32((2 / inputs) ** 0.5))


def _random_rows(shape: Sequence[int]) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.random((1, *shape), np.float32) for _ in range(_NUM_REQUESTS)]


def _export(
    model: str, directory: Path, module: tf.Module, predict: Callable[..., Mapping]
) -> None:
    tf.saved_model.save(module, str(directory / model / "1"), signatures=predict)


def _case(model: str, directory: Path, rows: Sequence[np.ndarray], **limits: float) -> BatchingCase:
    """The exported model's requests; what it answers in this process is what is expected."""
    loaded = tf.saved_model.load(str(directory / model / "1"))
    predict = loaded.signatures["serving_default"]
    return BatchingCase(
        model,
        [models.predict_request(model, row).SerializeToString() for row in rows],
        [predict(x=tf.constant(row))["y"].numpy() for row in rows],
        is_fixed=len({row.shape for row in rows}) == 1,
        **limits,
    )
