"""Exports half plus two, y = x / 2 + 2, as a SavedModel: the smallest model worth serving.

    python examples/half_plus_two/export.py [--export_version=N] EXPORT_DIR

Signatures:

* ``serving_default``: Predict, x float [rows] -> y float [rows].
* ``classify_x_to_y``: Classify, tf.Example with float feature ``x`` -> one score, y.
* ``regress_x_to_y``: Regress, tf.Example with float feature ``x`` -> y.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import tensorflow as tf

tf1 = tf.compat.v1  # its graphs carry the method names that Classify and Regress ask for


def half_plus_two(x: tf.Tensor, a: tf.Variable, b: tf.Variable, name: str) -> tf.Tensor:
    """A * x + b, of any shape."""
    return tf.add(tf.multiply(a, x), b, name=name)


def signatures() -> dict[str, object]:
    """Build the graph in the default graph; returns its SignatureDefs by name."""
    a = tf1.get_variable("a", initializer=0.5, use_resource=True)
    b = tf1.get_variable("b", initializer=2.0, use_resource=True)

    x = tf1.placeholder(tf.float32, shape=[None], name="x")
    y = half_plus_two(x, a, b, "y")

    examples = tf1.placeholder(tf.string, shape=[None], name="tf_example")
    features = tf1.parse_example(examples, {"x": tf1.FixedLenFeature([1], tf.float32)})
    y_of_examples = half_plus_two(features["x"], a, b, "y_of_examples")

    definitions = tf1.saved_model.signature_def_utils
    return {
        "serving_default": definitions.predict_signature_def({"x": x}, {"y": y}),
        "classify_x_to_y": definitions.classification_signature_def(
            examples, classes=None, scores=y_of_examples
        ),
        "regress_x_to_y": definitions.regression_signature_def(examples, y_of_examples),
    }


def export(directory: Path) -> None:
    """Write the SavedModel to ``directory``, which must not exist yet."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        signature_defs = signatures()
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session, [tf1.saved_model.tag_constants.SERVING], signature_defs
        )
        builder.save()


def main() -> None:
    parser = argparse.ArgumentParser(description="Export half plus two as a SavedModel.")
    parser.add_argument("--export_version", type=int, default=1, help="number of the version")
    parser.add_argument("export_dir", type=Path, help="parent of the version directories")
    arguments = parser.parse_args()

    version = arguments.export_dir / str(arguments.export_version)
    if version.exists():
        sys.exit(f"{version} exists already; choose another --export_version")
    # A server may be watching: the version gets its number only when it is whole.
    unfinished = arguments.export_dir / f"unfinished-{arguments.export_version}-{os.getpid()}"
    export(unfinished)
    unfinished.rename(version)
    print(f"exported {version}")


if __name__ == "__main__":
    main()
