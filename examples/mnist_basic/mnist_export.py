"""Trains a softmax regression on handwritten digits and exports it.

    python examples/mnist_basic/mnist_export.py [--training_iteration=N] [--export_version=N]
        [--format=session_bundle|saved_model] EXPORT_DIR

The export classifies: float [rows, 784] -> scores float [rows, 10].
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from mnist_input_data import CLASSES, PIXELS, Images, read_images
from tensorflow.core.protobuf.saver_pb2 import SaverDef

from serving.session_bundle_exporter import Exporter, classification_signature

tf1 = tf.compat.v1

_LEARNING_RATE = 0.01
_ROWS_OF_A_STEP = 50
_SEED = 20


class Model(NamedTuple):
    """scores = softmax(images x weights + biases)."""

    images: tf.Tensor
    logits: tf.Tensor
    scores: tf.Tensor


def softmax_regression() -> Model:
    """In the default graph, with variables as TensorFlow had them at first."""
    images = tf1.placeholder(tf.float32, [None, PIXELS], name="images")
    weights = tf1.get_variable("weights", initializer=tf.zeros([PIXELS, CLASSES]))
    biases = tf1.get_variable("biases", initializer=tf.zeros([CLASSES]))
    logits = tf.matmul(images, weights) + biases
    return Model(images, logits, tf.nn.softmax(logits, name="scores"))


def train(session: tf1.Session, model: Model, images: Images, iterations: int) -> None:
    """Gradient descent on the cross entropy of batches."""
    labels = tf1.placeholder(tf.int64, [None])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=model.logits)
    step = tf1.train.GradientDescentOptimizer(_LEARNING_RATE).minimize(tf.reduce_mean(losses))
    session.run(tf1.global_variables_initializer())
    random = np.random.default_rng(_SEED)
    for _ in range(iterations):
        rows = random.integers(len(images.labels), size=_ROWS_OF_A_STEP)
        session.run(step, {model.images: images.pixels[rows], labels: images.labels[rows]})


def write_session_bundle(session: tf1.Session, model: Model, base: Path, version: int) -> Path:
    """As TensorFlow Serving's first tutorial did: variables in shards of the older format."""
    saver = tf1.train.Saver(sharded=True, write_version=SaverDef.V1)
    exporter = Exporter(saver)
    exporter.init(
        session.graph.as_graph_def(),
        default_graph_signature=classification_signature(model.images, scores_tensor=model.scores),
    )
    return exporter.export(base, version, session)


def write_saved_model(session: tf1.Session, model: Model, base: Path, version: int) -> Path:
    """The same as a SavedModel, with the same signature."""
    info = tf1.saved_model.build_tensor_info
    signature = tf1.saved_model.build_signature_def(
        inputs={tf.saved_model.CLASSIFY_INPUTS: info(model.images)},
        outputs={tf.saved_model.CLASSIFY_OUTPUT_SCORES: info(model.scores)},
        method_name=tf.saved_model.CLASSIFY_METHOD_NAME,
    )
    # A server may be watching: the version gets its number only when it is whole.
    unfinished = base / f"unfinished-{version}-{os.getpid()}"
    builder = tf1.saved_model.Builder(str(unfinished))
    builder.add_meta_graph_and_variables(
        session,
        [tf.saved_model.SERVING],
        {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
    )
    builder.save()
    return unfinished.rename(base / f"{version:08}")


FORMATS: dict[str, Callable[[tf1.Session, Model, Path, int], Path]] = {
    "session_bundle": write_session_bundle,
    "saved_model": write_saved_model,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on digits and export a classifier.")
    parser.add_argument("--training_iteration", type=int, default=1000, help="steps of training")
    parser.add_argument("--export_version", type=int, default=1, help="number of the version")
    parser.add_argument("--format", choices=sorted(FORMATS), default="session_bundle")
    parser.add_argument("export_dir", type=Path, help="parent of the version directories")
    arguments = parser.parse_args()
    for name in ("training_iteration", "export_version"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name} must be positive, not {getattr(arguments, name)}")
    base, version = arguments.export_dir, arguments.export_version
    if (base / f"{version:08}").exists():
        parser.error(f"{base}/{version:08} exists already; choose another --export_version")

    training, held_out = read_images()
    with tf1.Graph().as_default(), tf1.Session() as session:
        model = softmax_regression()
        train(session, model, training, arguments.training_iteration)
        answers = session.run(model.scores, {model.images: held_out.pixels}).argmax(axis=1)
        directory = FORMATS[arguments.format](session, model, base, version)
    print(f"accuracy on held-out digits: {(answers == held_out.labels).mean():.1%}")
    print(f"exported {directory}")


if __name__ == "__main__":
    main()
