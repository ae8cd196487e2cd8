"""Trains a softmax regression on handwritten digits and exports it as a SavedModel.

    python examples/digits/export.py [--training_iteration=N] [--export_version=N] EXPORT_DIR

Signatures:

* ``predict_images``: Predict, images float [rows, 64] -> scores float [rows, 10].
* ``serving_default``: Classify, tf.Example with float feature ``x`` of 64 values -> classes and
  scores [rows, 10], best first.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import tensorflow as tf
from digits_input_data import CLASSES, PIXELS, Digits, read_digits

tf1 = tf.compat.v1  # its graphs carry the method name that Classify asks for

_LEARNING_RATE = 0.5


class SoftmaxRegression:
    """scores = softmax(images x weights + biases), in the default graph."""

    def __init__(self) -> None:
        self._weights = tf1.get_variable(
            "weights", initializer=tf.zeros([PIXELS, CLASSES]), use_resource=True
        )
        self._biases = tf1.get_variable(
            "biases", initializer=tf.zeros([CLASSES]), use_resource=True
        )

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Float [rows, 64] -> float [rows, 10]."""
        return tf.matmul(images, self._weights) + self._biases

    def scores(self, images: tf.Tensor, name: str) -> tf.Tensor:
        """Float [rows, 64] -> probabilities float [rows, 10]."""
        return tf.nn.softmax(self.logits(images), name=name)


def train(session: tf1.Session, model: SoftmaxRegression, digits: Digits, iterations: int) -> None:
    """Gradient descent on the mean cross entropy over all of ``digits``."""
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=digits.labels, logits=model.logits(tf.constant(digits.images))
        )
    )
    step = tf1.train.GradientDescentOptimizer(_LEARNING_RATE).minimize(loss)
    session.run(tf1.global_variables_initializer())
    for _ in range(iterations):
        session.run(step)


def error_rate(session: tf1.Session, model: SoftmaxRegression, digits: Digits) -> float:
    """The share of ``digits`` that the model takes for another digit."""
    answers = session.run(tf.argmax(model.logits(tf.constant(digits.images)), axis=1))
    return float((answers != digits.labels).mean())


def signatures(model: SoftmaxRegression) -> dict[str, object]:
    """The SignatureDefs by name."""
    images = tf1.placeholder(tf.float32, shape=[None, PIXELS], name="images")
    scores = model.scores(images, "scores")

    examples = tf1.placeholder(tf.string, shape=[None], name="tf_example")
    features = tf1.parse_example(examples, {"x": tf1.FixedLenFeature([PIXELS], tf.float32)})
    best_scores, best = tf.nn.top_k(model.scores(features["x"], "scores_of_examples"), CLASSES)
    names = tf.constant([str(digit) for digit in range(CLASSES)])

    definitions = tf1.saved_model.signature_def_utils
    return {
        "predict_images": definitions.predict_signature_def({"images": images}, {"scores": scores}),
        "serving_default": definitions.classification_signature_def(
            examples, classes=tf.gather(names, best), scores=best_scores
        ),
    }


def export(directory: Path, iterations: int) -> float:
    """Train, write the SavedModel to ``directory`` and return the error rate on held-out digits."""
    training, held_out = read_digits()
    with tf1.Graph().as_default(), tf1.Session() as session:
        model = SoftmaxRegression()
        train(session, model, training, iterations)
        errors = error_rate(session, model, held_out)
        builder = tf1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session, [tf1.saved_model.tag_constants.SERVING], signatures(model)
        )
        builder.save()
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on digits and export a SavedModel.")
    parser.add_argument("--training_iteration", type=int, default=300, help="steps of training")
    parser.add_argument("--export_version", type=int, default=1, help="number of the version")
    parser.add_argument("export_dir", type=Path, help="parent of the version directories")
    arguments = parser.parse_args()

    version = arguments.export_dir / str(arguments.export_version)
    if version.exists():
        sys.exit(f"{version} exists already; choose another --export_version")
    # A server may be watching: the version gets its number only when it is whole.
    unfinished = arguments.export_dir / f"unfinished-{arguments.export_version}-{os.getpid()}"
    errors = export(unfinished, arguments.training_iteration)
    unfinished.rename(version)
    print(f"exported {version}; error rate on held-out digits: {errors:.1%}")


if __name__ == "__main__":
    main()
