"""TensorFlow Lite models, converted by the real TensorFlow: each writes ``model.tflite`` into an
empty or missing directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import flatbuffers
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
YES = tf.train.Example(
    features=tf.train.Features(
        feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0]))}
    )
).SerializeToString()


def half_plus_two(directory: Path) -> None:
    """``x`` [rows, 1] → ``y`` = x / 2 + 2, with the signature list that the converter writes."""

    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 0.5 + 2.0}

    _write(directory, converted({"serving_default": (predict, [_floats(None, 1)])}))


def half_plus_two_with_metadata(directory: Path) -> None:
    """As :func:`half_plus_two`, its signature in the metadata that TensorFlow Serving reads.

    The signature calls the tensors as the converted graph did, where they ended in ``:0``.
    """
    half_plus_two(directory)
    content = without_signatures((directory / "model.tflite").read_bytes(), {0: "x", 1: "y"})
    signature = SignatureDef(method_name=PREDICT)
    signature.inputs["x"].CopyFrom(_info("x:0", tf.float32))
    signature.outputs["y"].CopyFrom(_info("y:0", tf.float32))
    _write(directory, with_metadata(content, {"serving_default": signature}))


def half_plus_two_bare(directory: Path) -> None:
    """As :func:`half_plus_two`, without any signature; tensors are ``in:0`` and ``out``."""
    half_plus_two(directory)
    content = (directory / "model.tflite").read_bytes()
    _write(directory, without_signatures(content, {0: "in:0", 1: "out"}))


def verbs(directory: Path) -> None:
    """``inputs``, strings → for each a score: 1 where it is YES, a tf.Example with x = 1, else 0.

    ``serving_default`` predicts, ``classify`` has ``scores`` [rows, 1], ``regress`` ``outputs``.
    """

    def predict(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.cast(tf.reshape(tf.equal(inputs, YES), [-1, 1]), tf.float32)}

    content = converted({"serving_default": (predict, [tf.TensorSpec([None], tf.string, "i")])})
    signatures = {}
    for name, method, output in (
        ("serving_default", PREDICT, "scores"),
        ("classify", CLASSIFY, "scores"),
        ("regress", REGRESS, "outputs"),
    ):
        signatures[name] = SignatureDef(method_name=method)
        signatures[name].inputs["inputs"].CopyFrom(_info("inputs", tf.string))
        signatures[name].outputs[output].CopyFrom(_info("scores", tf.float32))
    content = without_signatures(content, {0: "inputs", 1: "scores"})
    _write(directory, with_metadata(content, signatures))


def parses_examples(directory: Path) -> None:
    """``inputs``, tf.Examples → ``scores`` [rows, 1], their ``x``, parsed by the graph."""

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        return {"scores": tf.io.parse_example(inputs, features)["x"]}

    specs = [tf.TensorSpec([None], tf.string)]
    _write(directory, converted({"serving_default": (classify, specs)}, custom_operations=True))


def two_graphs(directory: Path) -> None:
    """``half``: ``x`` [rows] → ``y`` = x / 2; ``sum``: ``x``, ``z`` [rows] → ``y`` = x + z."""

    def half(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2}

    def both(x: tf.Tensor, z: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + z}

    row = _floats(None)
    _write(directory, converted({"half": (half, [row]), "sum": (both, [row, row])}))


def strings(directory: Path) -> None:
    """``text`` [rows] → ``column`` [rows, 1], the same; ``number`` [] int64 → ``same``."""

    def predict(text: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"column": tf.reshape(text, [-1, 1]), "same": number + 0}

    specs = [tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int64)]
    _write(directory, converted({"serving_default": (predict, specs)}))


def turns(directory: Path) -> None:
    """``turns`` [rows] int32 → ``y`` [rows]: the number of turns that the largest of them took.

    A turn takes about a microsecond.
    """

    def predict(turns: tf.Tensor) -> dict[str, tf.Tensor]:
        wanted = tf.reduce_max(turns)
        counted = tf.while_loop(lambda turn: turn < wanted, lambda turn: [turn + 1], [0])[0]
        return {"y": turns * 0 + counted}

    specs = [tf.TensorSpec([None], tf.int32)]
    _write(directory, converted({"serving_default": (predict, specs)}))


def dense(directory: Path) -> None:
    """``x`` [rows, 4] → ``y`` [rows, 2], a product; other widths are an error of the run."""
    weights = tf.constant([[1.0, 0.0]] * 4)

    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, weights)}

    _write(directory, converted({"serving_default": (predict, [_floats(None, 4)])}))


def looked_up(directory: Path) -> None:
    """``rows`` [n] int32 → ``y`` [n, 2], those rows of a table of 4; others are an error."""
    table = tf.constant([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])

    def predict(rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.gather(table, rows)}

    specs = [tf.TensorSpec([None], tf.int32)]
    _write(directory, converted({"serving_default": (predict, specs)}))


def rows_of_run(directory: Path) -> None:
    """``x`` [rows] → ``rows`` [rows] int32: how many rows the run had, in each of them."""

    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"rows": tf.fill(tf.shape(x), tf.size(x))}

    _write(directory, converted({"serving_default": (predict, [_floats(None)])}))


def converted(
    signatures: Mapping[str, tuple[Callable, list[tf.TensorSpec]]],
    *,
    custom_operations: bool = False,
) -> bytes:
    """The file of a module with these functions; parameters become aliases.

    ``custom_operations``: others may have what TensorFlow Lite has no operation for.
    """
    module = tf.Module()
    functions = {}
    for name, (function, specs) in signatures.items():
        functions[name] = tf.function(function, input_signature=specs)
        setattr(module, f"function_{name}", functions[name])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.allow_custom_ops = custom_operations
        return converter.convert()


def without_signatures(content: bytes, names: Mapping[int, str]) -> bytes:
    """The file as older converters wrote it: no signature list, and these names of tensors.

    ``names`` counts the inputs of the main graph, then its outputs.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.signatureDefs = None
    graph = model.subgraphs[0]
    ends = [*graph.inputs, *graph.outputs]
    for number, name in names.items():
        graph.tensors[ends[number]].name = name.encode()
    return _packed(model)


def with_metadata(content: bytes, signatures: Mapping[str, SignatureDef]) -> bytes:
    """The file with the metadata that holds a map from names to serialized SignatureDefs."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, signature in signatures.items():
            builder.Key(name)
            # As a string, which the builder's public method would encode.
            builder._WriteBlob(
                signature.SerializeToString(), append_zero=True, type_=flexbuffers.Type.STRING
            )
    return with_metadata_buffer(content, bytes(builder.Finish()))


def with_metadata_buffer(content: bytes, data: bytes) -> bytes:
    """The file with these bytes where the map is looked for."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    buffer = schema.BufferT()
    buffer.data = list(data)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = b"signature_defs_metadata"
    entry.buffer = len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return _packed(model)


def with_a_custom_operation(content: bytes, name: str) -> bytes:
    """The file with its first kind of operation replaced by one that nobody knows."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    operation = model.operatorCodes[0]
    operation.builtinCode = schema.BuiltinOperator.CUSTOM
    operation.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    operation.customCode = name.encode()
    return _packed(model)


def _packed(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _write(directory: Path, content: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.tflite").write_bytes(content)


def _floats(*sizes: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(sizes, tf.float32)


def _info(name: str, dtype: tf.DType) -> TensorInfo:
    return TensorInfo(name=name, dtype=dtype.as_datatype_enum)
