"""Real models, exported by the real TensorFlow, small enough to export in every test session.

Each function writes one SavedModel into an empty or missing directory. Most build a TensorFlow 1
graph, the fastest way; ``half_plus_two_tf2`` and ``keras_model`` use TensorFlow 2's exporters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

v1 = tf.compat.v1

Exported = Callable[..., Path]
"""The session fixture ``exported``: an exporter → the version directory of its model."""

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

IDENTITY_DTYPES = (
    tf.float32,
    tf.float64,
    tf.float16,
    tf.bfloat16,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.uint8,
    tf.uint16,
    tf.uint32,
    tf.uint64,
    tf.bool,
    tf.string,
    tf.complex64,
    tf.complex128,
    tf.qint8,
    tf.quint8,
    tf.qint32,
    tf.dtypes.experimental.float8_e5m2,
    tf.dtypes.experimental.float8_e4m3fn,
)


def half_plus_two(directory: Path) -> None:
    """Half plus two: y = x / 2 + 2 over [rows, 1] floats, in TensorFlow 1 style with variables.

    ``serving_default`` predicts x → y; ``classify_x_to_y`` (inputs → scores), ``regress_x_to_y``
    and ``regress_x_to_y2`` (inputs → outputs; y2 = x / 2 + 3) take serialized tf.Examples with a
    float feature ``x``; ``regress_x2_to_y3`` reads the feature ``x2`` (y3 = x2 / 2 + 3).
    """
    with tf.Graph().as_default(), v1.Session() as session:
        half = v1.get_variable("a", initializer=0.5)
        two = v1.get_variable("b", initializer=2.0)
        three = v1.get_variable("c", initializer=3.0)
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        column = tf.io.FixedLenFeature([1], tf.float32)
        optional = tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])
        parsed = v1.io.parse_example(examples, {"x": column, "x2": optional})
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(half * x, two, name="y")
        y2 = tf.add(half * x, three, name="y2")
        y3 = tf.add(half * parsed["x2"], three, name="y3")
        session.run(v1.global_variables_initializer())
        _save(
            directory,
            session,
            {
                "serving_default": _signature({"x": x}, {"y": y}),
                "classify_x_to_y": _signature({"inputs": examples}, {"scores": y}, CLASSIFY),
                "regress_x_to_y": _signature({"inputs": examples}, {"outputs": y}, REGRESS),
                "regress_x_to_y2": _signature({"inputs": examples}, {"outputs": y2}, REGRESS),
                "regress_x2_to_y3": _signature({"inputs": examples}, {"outputs": y3}, REGRESS),
            },
        )


def half_plus_two_tf2(directory: Path) -> None:
    """Half plus two over [rows] floats, by ``tf.saved_model.save``; alias ``x`` → ``y``."""
    module = tf.Module()
    module.half = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": module.half * x + 2.0}

    tf.saved_model.save(module, str(directory), signatures=predict)


def keras_model(directory: Path) -> None:
    """A dense layer, [rows, 2] → [rows, 1], weights 1 and bias 0: the sum of a row."""
    inputs = tf.keras.Input(shape=(2,), name="features")
    outputs = tf.keras.layers.Dense(1, kernel_initializer="ones", name="total")(inputs)
    tf.keras.Model(inputs, outputs).export(str(directory), verbose=False)


def matmul(directory: Path) -> None:
    """Product y = a · b of float matrices; unmatched inner sizes fail in node ``y``."""
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.placeholder(tf.float32, [None, None], name="a")
        b = v1.placeholder(tf.float32, [None, None], name="b")
        y = tf.linalg.matmul(a, b, name="y")
        _save(directory, session, {"serving_default": _signature({"a": a, "b": b}, {"y": y})})


def strings(directory: Path) -> None:
    """``text`` [rows] → ``shout`` (``!`` appended) and ``length`` in bytes."""
    with tf.Graph().as_default(), v1.Session() as session:
        text = v1.placeholder(tf.string, [None], name="text")
        shout = tf.add(text, "!", name="shout")
        length = tf.strings.length(text, name="length")
        signature = _signature({"text": text}, {"shout": shout, "length": length})
        _save(directory, session, {"serving_default": signature})


def bytes_out(directory: Path) -> None:
    """``data`` [rows] strings → ``data_bytes`` unchanged and ``data_text``, its web-safe base64."""
    with tf.Graph().as_default(), v1.Session() as session:
        data = v1.placeholder(tf.string, [None], name="data")
        same = tf.identity(data, name="same")
        text = tf.io.encode_base64(data, name="text")
        signature = _signature({"data": data}, {"data_bytes": same, "data_text": text})
        _save(directory, session, {"serving_default": signature})


def identities(directory: Path) -> None:
    """One input and output of unknown shape for each of IDENTITY_DTYPES, aliased by its name.

    The signature ``serving_default`` has them all; a signature named like the type has one.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = {t.name: v1.placeholder(t, name=f"in_{t.name}") for t in IDENTITY_DTYPES}
        outputs = {name: tf.identity(x, name=f"out_{name}") for name, x in inputs.items()}
        signatures = {
            name: _signature({name: inputs[name]}, {name: outputs[name]}) for name in inputs
        }
        _save(directory, session, {"serving_default": _signature(inputs, outputs), **signatures})


def with_defaults(directory: Path) -> None:
    """Product y = x · scale; the signature's defaults supply ``scale`` = 3 where it is left out."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        scale = v1.placeholder(tf.float32, [], name="scale")
        signature = _signature({"x": x, "scale": scale}, {"y": tf.multiply(x, scale, name="y")})
        signature.defaults["scale"].CopyFrom(tf.make_tensor_proto(np.float32(3)))
        _save(directory, session, {"serving_default": signature})


def slow(directory: Path, iterations: int = 10_000_000) -> None:
    """``x`` [rows] → ``y`` = x + iterations, one turn of a loop after the other.

    A turn takes some 4 µs and a run can be cancelled between turns.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        _, total = tf.while_loop(
            lambda turn, _: turn < iterations, lambda turn, sum_: (turn + 1, sum_ + 1.0), [0, x]
        )
        y = tf.identity(total, name="y")
        _save(directory, session, {"serving_default": _signature({"x": x}, {"y": y})})


def turns(directory: Path) -> None:
    """``turns`` [] int32 → ``y`` [] int32, the same number, counted by a loop as :func:`slow`'s."""
    with tf.Graph().as_default(), v1.Session() as session:
        wanted = v1.placeholder(tf.int32, [], name="turns")
        counted = tf.while_loop(lambda turn: turn < wanted, lambda turn: [turn + 1], [0])
        y = tf.identity(counted, name="y")
        _save(directory, session, {"serving_default": _signature({"turns": wanted}, {"y": y})})


def turns_tf2(directory: Path) -> None:
    """As :func:`turns`, by ``tf.saved_model.save``: the loop is in a function of the library."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="turns")])
    def predict(turns: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.while_loop(lambda turn: turn < turns, lambda turn: [turn + 1], [0])[0]}

    tf.saved_model.save(tf.Module(), str(directory), signatures=predict)


def numbers(directory: Path) -> None:
    """``text`` [rows] → ``y`` [rows] floats; a text that is no number fails in node ``y``."""
    with tf.Graph().as_default(), v1.Session() as session:
        text = v1.placeholder(tf.string, [None], name="text")
        y = tf.strings.to_number(text, name="y")
        _save(directory, session, {"serving_default": _signature({"text": text}, {"y": y})})


def version_number(directory: Path) -> None:
    """``x`` [rows] floats → ``version`` [rows] int64: the number that names the directory."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        number = tf.constant(int(directory.name), tf.int64)
        version = tf.fill(tf.shape(x), number, name="version")
        _save(directory, session, {"serving_default": _signature({"x": x}, {"version": version})})


def constant(directory: Path) -> None:
    """No inputs; ``c`` = [1, 2] is a constant of the graph itself."""
    with tf.Graph().as_default(), v1.Session() as session:
        c = tf.constant([1.0, 2.0], name="c")
        _save(directory, session, {"serving_default": _signature({}, {"c": c})})


def vocabulary(directory: Path) -> None:
    """``word`` [rows] → ``id``: its line in an asset file (a 0, b 1, c 2), or -1, by a table."""
    asset = directory.with_name(f"{directory.name}-vocabulary.txt")
    asset.write_text("a\nb\nc\n")
    with tf.Graph().as_default(), v1.Session() as session:
        initializer = tf.lookup.TextFileInitializer(
            str(asset), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, -1
        )
        table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        word = v1.placeholder(tf.string, [None], name="word")
        signature = _signature({"word": word}, {"id": tf.identity(table.lookup(word), name="id")})
        _save(directory, session, {"serving_default": signature}, main_op=v1.tables_initializer())
    asset.unlink()


def main_op(directory: Path) -> None:
    """``x`` → ``y`` = x + 7, where 7 is assigned by the graph's main op and by nothing else."""
    _initialised(directory, "main_op")


def legacy_init_op(directory: Path) -> None:
    """As :func:`main_op`, by the older ``legacy_init_op``."""
    _initialised(directory, "legacy_init_op")


def unfed_placeholder(directory: Path) -> None:
    """``x`` → ``y``, which also needs a placeholder ``z`` [?, 4] that no signature names."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        z = v1.placeholder(tf.float32, [None, 4], name="z")
        y = tf.add(x, z, name="y")
        _save(directory, session, {"serving_default": _signature({"x": x}, {"y": y})})


def tagged(directory: Path) -> None:
    """Half plus two's y = x / 2 + 2 without variables, under the tags ``serve`` and ``gpu``."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.add(x / 2, 2.0, name="y")
        signature = {"serving_default": _signature({"x": x}, {"y": y})}
        _save(directory, session, signature, tags=("serve", "gpu"))


def _initialised(directory: Path, kind: str) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        seven = v1.get_variable("seven", initializer=0.0)
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.add(x, seven, name="y")
        assign = tf.group(v1.assign(seven, 7.0))
        session.run(v1.global_variables_initializer())
        _save(
            directory,
            session,
            {"serving_default": _signature({"x": x}, {"y": y})},
            **{kind: assign},
        )


def _signature(
    inputs: Mapping[str, tf.Tensor], outputs: Mapping[str, tf.Tensor], method: str = PREDICT
) -> SignatureDef:
    return SignatureDef(
        inputs={alias: _info(tensor) for alias, tensor in inputs.items()},
        outputs={alias: _info(tensor) for alias, tensor in outputs.items()},
        method_name=method,
    )


def _info(tensor: tf.Tensor) -> TensorInfo:
    return TensorInfo(
        name=tensor.name,
        dtype=tensor.dtype.as_datatype_enum,
        tensor_shape=tensor.shape.as_proto(),
    )


def _save(
    directory: Path,
    session: v1.Session,
    signatures: Mapping[str, SignatureDef],
    *,
    tags: tuple[str, ...] = ("serve",),
    main_op: tf.Operation | None = None,
    legacy_init_op: tf.Operation | None = None,
) -> None:
    builder = v1.saved_model.Builder(str(directory))
    builder.add_meta_graph_and_variables(
        session,
        list(tags),
        signature_def_map=dict(signatures),
        assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        main_op=main_op,
        legacy_init_op=legacy_init_op,
    )
    builder.save()
