"""Real SessionBundles, with checkpoints as the real TensorFlow writes them, and frozen graphs.

Each function writes one version into a missing directory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saver_pb2 import SaverDef

from serving.session_bundle_exporter import (
    Exporter,
    classification_signature,
    generic_signature,
    regression_signature,
)

v1 = tf.compat.v1

SHARDED_V1: dict[str, Any] = {"sharded": True, "write_version": SaverDef.V1}


def half_plus_two(directory: Path, *, default: bool = True, **saver: Any) -> None:
    """Half plus two, y = x / 2 + 2 over floats [rows].

    The default signature, if there is one, regresses x → y.
    ``classify`` (tf.Examples with a float feature ``x`` → classes and scores), ``regress``
    (examples → y), ``inputs`` x and ``outputs`` y are named. ``saver`` says how variables are
    written; as they were at first where nothing is said.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        half = v1.get_variable("a", initializer=0.5, use_resource=False)
        two = v1.get_variable("b", initializer=2.0, use_resource=False)
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = v1.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        column = tf.add(half * parsed["x"], two, name="column")
        classes = tf.where(column > 3, tf.fill(tf.shape(column), "large"), _small(column))
        x = v1.placeholder(tf.float32, [None], name="x")
        half_of_x = tf.matmul(x[:, tf.newaxis], half[tf.newaxis, tf.newaxis], name="half_of_x")
        y = tf.add(half_of_x[:, 0], two, name="y")
        session.run(v1.global_variables_initializer())
        exporter = Exporter(v1.train.Saver(**(saver or SHARDED_V1)))
        exporter.init(
            default_graph_signature=regression_signature(x, y) if default else None,
            named_graph_signatures={
                "classify": classification_signature(examples, classes, column),
                "regress": regression_signature(examples, column),
                "inputs": generic_signature({"x": x}),
                "outputs": generic_signature({"y": y}),
                "all": generic_signature({"a": half, "y": y}),
            },
        )
        _export(exporter, directory, session)


def _small(column: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(column), "small")


def words(directory: Path) -> None:
    """The id of a word is its line in an asset file; the init operation fills the table."""
    source = directory.with_name(f"{directory.name}-words.txt")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("a\nb\nc\n")
    with tf.Graph().as_default(), v1.Session() as session:
        path = tf.constant(str(source))
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )
        word = v1.placeholder(tf.string, [None], name="word")
        number = v1.get_variable("number", initializer=0, use_resource=False)
        exporter = Exporter(v1.train.Saver([number], **SHARDED_V1))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        exporter.init(
            init_op=v1.tables_initializer(),
            named_graph_signatures={
                "inputs": generic_signature({"word": word}),
                "outputs": generic_signature({"id": table.lookup(word)}),
            },
            assets_collection=[path],
        )
        _export(exporter, directory, session)
    source.unlink()


def _export(exporter: Exporter, directory: Path, session: Any) -> None:
    base = directory.with_name(f"{directory.name}-base")
    version = exporter.export(base, 1, session)
    shutil.copytree(version, directory, dirs_exist_ok=True)
    shutil.rmtree(base)


def edit(directory: Path, change: Callable[[MetaGraphDef], object]) -> None:
    """Change what ``export.meta`` says."""
    file = directory / "export.meta"
    meta_graph = MetaGraphDef.FromString(file.read_bytes())
    change(meta_graph)
    file.write_bytes(meta_graph.SerializeToString())


def frozen_graph(directory: Path) -> None:
    """Without variables: y = x / 2 + 2 and parts = split(y), over floats [rows, 2]."""
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        v1.placeholder(tf.float32, [], name="unused")
        half_of_x = tf.matmul(x, 0.5 * np.eye(2, dtype=np.float32), name="half_of_x")
        y = tf.add(half_of_x, 2.0, name="y")
        tf.split(y, 2, axis=1, name="parts")
        tf.reduce_sum(y, axis=1, name="sum")
    write_graph(directory, graph.as_graph_def())


def write_graph(directory: Path, graph: GraphDef, name: str = "graph.pb") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(graph.SerializeToString())
