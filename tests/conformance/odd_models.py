"""Models that only the conformance tests need: wrong ones, and ones that wait for the test."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from exported_models import CLASSIFY, PREDICT, REGRESS, _save, _signature, v1


def odd_signatures(directory: Path) -> None:
    """Signatures over serialized examples, named after what each has wrong, and some good ones."""
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], name="examples")
        more = v1.placeholder(tf.string, [None], name="more")
        rows = tf.shape(examples)[:1]
        pair = tf.concat([rows, [2]], 0)
        scores = tf.fill(pair, 0.5, name="scores")
        classes = tf.fill(pair, "label", name="classes")
        values = tf.fill(rows, 1.5, name="values")

        def classify(outputs: dict[str, tf.Tensor], method: str = CLASSIFY) -> object:
            return _signature({"inputs": examples}, outputs, method)

        def regress(outputs: dict[str, tf.Tensor], method: str = REGRESS) -> object:
            return _signature({"inputs": examples}, outputs, method)

        both = {"inputs": examples, "more": more}
        wrong_alias = {"wrong": examples}
        _save(
            directory,
            session,
            {
                "classes_and_scores": classify({"classes": classes, "scores": scores}),
                "classes_only": classify({"classes": classes}),
                "classify_by_predict_method": classify({"scores": scores}, PREDICT),
                "regress_by_predict_method": regress({"outputs": values}, PREDICT),
                "odd_method": classify({"scores": scores}, "tensorflow/serving/odd"),
                "classify_two_inputs": _signature(both, {"scores": scores}, CLASSIFY),
                "classify_three_outputs": classify(
                    {"classes": classes, "scores": scores, "values": values}
                ),
                "classify_wrong_input": _signature(wrong_alias, {"scores": scores}, CLASSIFY),
                "classify_wrong_output": classify({"wrong": scores}),
                "classify_rank_1": classify({"scores": values}),
                "classify_int_scores": classify(
                    {"scores": tf.cast(scores, tf.int64, name="int_scores")}
                ),
                "classify_float_classes": classify({"classes": scores}),
                "classify_one_row": classify({"scores": tf.constant([[1.0]], name="one_row")}),
                "classify_uneven": classify(
                    {
                        "classes": classes,
                        "scores": tf.fill(tf.concat([rows, [3]], 0), 0.5, name="three"),
                    }
                ),
                "regress_two_inputs": _signature(both, {"outputs": values}, REGRESS),
                "regress_two_outputs": regress({"outputs": values, "more": scores}),
                "regress_wrong_input": _signature(wrong_alias, {"outputs": values}, REGRESS),
                "regress_wrong_output": regress({"wrong": values}),
                "regress_two_columns": regress({"outputs": scores}),
                "regress_double": regress(
                    {"outputs": tf.cast(values, tf.float64, name="double_values")}
                ),
                "regress_one_row": regress({"outputs": tf.constant([1.0], name="one_value")}),
            },
        )


def gated(directory: Path) -> None:
    """``gate`` [], a path → ``version`` [], once a file is there; a run can be cancelled."""
    with tf.Graph().as_default(), v1.Session() as session:
        gate = v1.placeholder(tf.string, [], name="gate")
        with tf.control_dependencies([_await_file(gate)]):
            version = tf.identity(tf.constant(int(directory.name), tf.int64), name="version")
        signature = _signature({"gate": gate}, {"version": version})
        _save(directory, session, {"serving_default": signature})


def gated_load(directory: Path, *, gate: Path) -> None:
    """As exported_models.version_number, but its loading ends only once the gate is there.

    A file named after the gate (`awaiting`) says that the load has come that far: it has read all
    files of the version, and waits.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        number = tf.constant(int(directory.name), tf.int64)
        version = tf.fill(tf.shape(x), number, name="version")
        signature = _signature({"x": x}, {"version": version})
        arrival = tf.io.write_file(str(awaiting(gate)), "")
        with tf.control_dependencies([arrival]):
            main_op = tf.group(_await_file(tf.constant(str(gate))))
        _save(directory, session, {"serving_default": signature}, main_op=main_op)


def awaiting(gate: Path) -> Path:
    """Of a gated_load: there from when its load waits for the gate."""
    return gate.with_name(f"{gate.name}.awaited")


def _await_file(path: tf.Tensor) -> tf.Tensor:
    def missing(turn: tf.Tensor) -> tf.Tensor:
        # Nothing in turns is added to the path, so that no optimizer looks only once.
        nothing = tf.strings.substr(tf.strings.as_string(turn), 0, 0)
        return tf.equal(tf.size(tf.io.matching_files(tf.strings.join([path, nothing]))), 0)

    return tf.while_loop(missing, lambda turn: [turn + 1], [tf.constant(0)])[0]
