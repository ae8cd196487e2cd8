"""To SavedModels what was before them, and SavedModels to TensorFlow Lite."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from serving.config.options import ServerOptions
from serving.core.clock import SystemClock
from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument, ResourceExhausted
from serving.core.servable import Signature
from serving.loaders.tensorflow_custom_ops import load_custom_ops
from serving.loaders.tensorflow_description import described_graphs
from serving.loaders.tensorflow_export import RestoredGraph
from serving.loaders.tensorflow_exports import read_export
from serving.loaders.tensorflow_session import TensorFlowSession
from serving.loaders.tensorflow_session_config import session_config

_FILE = "saved_model.pb"
_ASSETS = "assets"
_TAG = "serve"
_SCHEMA_VERSION = 1
_INIT_OP_KEY = "saved_model_main_op"
_MOST_BYTES = 2**31 - 1


def saved_model(source: str, target: Path, _to: str, options: ServerOptions) -> None:
    """Write a SavedModel with the graph and the signatures of a SessionBundle or a frozen graph.

    Variables become constants. The operation that initialises stays, and so do the asset files it
    reads. Raises what the platform ``tensorflow`` raises, and ResourceExhausted for a graph that
    is larger than a SavedModel's file can be.
    """
    load_custom_ops(options.tensorflow.custom_op_libraries)
    session = TensorFlowSession(session_config(options.tensorflow), SystemClock())
    try:
        restored = read_export(source, options.tensorflow.tags).restore(session)
        written = _saved_model(session, restored)
    finally:
        session.close()
    if written.ByteSize() > _MOST_BYTES:
        raise ResourceExhausted("its variables are too large for constants: 2 GiB at most")
    (target / _FILE).write_bytes(written.SerializeToString(deterministic=True))
    for path in restored.assets.values():
        copy = target / _ASSETS / _asset_name(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def tflite(source: str, target: Path, _to: str, options: ServerOptions) -> None:
    """Write ``model.tflite`` with the signatures of a SavedModel that take no strings, as examples
    are, which TensorFlow Lite does not parse.

    Raises InvalidArgument for operations that TensorFlow Lite does not have.
    """
    load_custom_ops(options.tensorflow.custom_op_libraries)
    tags = set(options.tensorflow.tags)
    names = [
        name
        for graph in described_graphs(source)
        for name, signature in graph.signatures.items()
        if set(graph.tags) == tags and signature.outputs and _takes_numbers(signature)
    ]
    try:
        converter = tf.lite.TFLiteConverter.from_saved_model(source, names, tags)
        content = converter.convert()
    except Exception as error:  # its own has no public name, and others come through it
        text = str(error).strip().partition("\n")[0]
        raise InvalidArgument(f"TensorFlow Lite can not have this model: {text}") from error
    (target / "model.tflite").write_bytes(content)


def _takes_numbers(signature: Signature) -> bool:
    infos = signature.inputs.values()
    return bool(infos) and all(info.dtype is not DType.STRING for info in infos)


def _saved_model(session: TensorFlowSession, restored: RestoredGraph) -> SavedModel:
    nodes = _nodes(restored.signatures) | {_node(tensor) for tensor in restored.assets}
    nodes |= {restored.init_op} - {""}
    made = SavedModel(saved_model_schema_version=_SCHEMA_VERSION)
    graph: MetaGraphDef = made.meta_graphs.add()
    graph.meta_info_def.tags.append(_TAG)
    graph.meta_info_def.tensorflow_version = tf.__version__
    graph.graph_def.CopyFrom(session.with_constants(restored.graph, sorted(nodes)))
    for name, signature in restored.signatures.items():
        graph.signature_def[name].CopyFrom(signature)
    if restored.init_op:
        graph.collection_def[_INIT_OP_KEY].node_list.value.append(restored.init_op)
    for tensor, path in restored.assets.items():
        asset = graph.asset_file_def.add(filename=_asset_name(path))
        asset.tensor_info.name = tensor
    return made


def _nodes(signatures: Mapping[str, SignatureDef]) -> set[str]:
    infos: Iterable[str] = (
        info.name
        for signature in signatures.values()
        for info in (*signature.inputs.values(), *signature.outputs.values())
    )
    return {_node(name) for name in infos}


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]


def _asset_name(path: str) -> str:
    """Below the directory of assets."""
    return path.rpartition(f"/{_ASSETS}/")[2]
