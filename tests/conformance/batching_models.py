"""Models that tell of the batches they run in."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from exported_models import _save, _signature, v1
from odd_models import _await_file


def rows_of_run(directory: Path) -> None:
    """``x`` [rows] floats → ``x`` unchanged and ``rows`` [rows]: how many the run has."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        rows = tf.fill(tf.shape(x), tf.size(x, tf.int64), name="rows")
        outputs = {"x": tf.identity(x, name="same"), "rows": rows}
        _save(directory, session, {"serving_default": _signature({"x": x}, outputs)})


def total(directory: Path) -> None:
    """``x`` [rows] floats → ``sum`` [], over all rows of the run."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        outputs = {"sum": tf.reduce_sum(x, name="sum")}
        _save(directory, session, {"serving_default": _signature({"x": x}, outputs)})


def gated_rows(directory: Path) -> None:
    """``gate`` [rows], paths → the same, once there is a file at the first of them.

    A run says that it waits by writing a file beside it, with ``-entered`` in its name.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        gate = v1.placeholder(tf.string, [None], name="gate")
        with tf.control_dependencies([tf.io.write_file(gate[0] + "-entered", "")]):
            path = tf.identity(gate[0])
        with tf.control_dependencies([_await_file(path)]):
            same = tf.identity(gate, name="same")
        _save(directory, session, {"serving_default": _signature({"gate": gate}, {"gate": same})})


def gated_count(directory: Path) -> None:
    """As gated_rows, but ``number`` [rows] comes back: how many runs this instance has had."""
    with tf.Graph().as_default(), v1.Session() as session:
        gate = v1.placeholder(tf.string, [None], name="gate")
        count = v1.get_variable("count", initializer=tf.constant(0, tf.int64), use_resource=True)
        session.run(count.initializer)
        with tf.control_dependencies([tf.io.write_file(gate[0] + "-entered", "")]):
            path = tf.identity(gate[0])
        with tf.control_dependencies([_await_file(path)]):
            added = count.assign_add(1, read_value=True)
        number = tf.fill(tf.shape(gate), added, name="number")
        _save(
            directory, session, {"serving_default": _signature({"gate": gate}, {"number": number})}
        )
