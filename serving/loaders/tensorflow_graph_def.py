"""Graphs alone: a GraphDef whose variables have been made constants, in one ``.pb`` file.

What it takes and gives says a ``signature.json`` beside it, by tensors of the graph; what that
leaves out is read from the graph.
"""

from __future__ import annotations

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo as TensorInfoProto

from serving.core.errors import InvalidArgument
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo
from serving.loaders.signature_file import SIGNATURE_FILE, read_signature_file
from serving.loaders.tensorflow_export import RestoredGraph, read
from serving.loaders.tensorflow_session import TensorFlowSession

_PREDICT_METHOD = "tensorflow/serving/predict"
_BESIDE_SAVED_MODELS = frozenset({"saved_model.pb", "fingerprint.pb", "keras_metadata.pb"})
_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2"})
_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_NO_RESULTS = _PLACEHOLDERS | {"Const", "PlaceholderWithDefault"}


def graph_def_file(path: str) -> str | None:
    """The one ``.pb`` file of the directory that is no part of a SavedModel, if there is just one.

    Raises tf.errors.OpError.
    """
    if not tf.io.gfile.isdir(path):
        return None
    files = [name for name in tf.io.gfile.listdir(path) if name.endswith(".pb")]
    candidates = [name for name in files if name not in _BESIDE_SAVED_MODELS]
    return candidates[0] if len(candidates) == 1 else None


class GraphDefExport:
    """A graph alone, and its one signature. Where nothing says otherwise, its inputs are what has
    to be fed, its outputs what nothing else in the graph uses.

    Raises InvalidArgument for a file that does not parse, a graph that has variables or nothing to
    compute, or a wrong ``signature.json``; tf.errors.OpError when reading fails.
    """

    def __init__(self, path: str, file: str) -> None:
        self._file = file
        self._declared = read_signature_file(path)
        try:
            self._graph = GraphDef.FromString(read(tf.io.gfile.join(path, file)))
        except DecodeError:
            raise InvalidArgument(f"{file} is no graph, or not all of one") from None
        for node in self._graph.node:
            if node.op in _VARIABLES:
                raise InvalidArgument(
                    f"{file} has variables, of which {node.name} is one, and nothing says what "
                    "they hold: freeze the graph first"
                )

    def restore(self, session: TensorFlowSession) -> RestoredGraph:
        """There is nothing to restore beyond the graph."""
        session.add_graph(self._graph)
        inputs = self._declared.inputs
        outputs = self._declared.outputs
        signature = SignatureDef(method_name=_PREDICT_METHOD)
        for name in _placeholders(self._graph) if inputs is None else inputs:
            signature.inputs[name].CopyFrom(_described(session, name, (inputs or {}).get(name)))
        for name in _results(self._graph, session) if outputs is None else outputs:
            signature.outputs[name].CopyFrom(_described(session, name, (outputs or {}).get(name)))
        if not signature.outputs:
            raise InvalidArgument(f"{self._file} is no graph that computes anything")
        return RestoredGraph(self._graph, {DEFAULT_SIGNATURE: signature})


def _described(
    session: TensorFlowSession, name: str, declared: TensorInfo | None
) -> TensorInfoProto:
    """What the graph tells of a tensor; of its shape, what is declared may tell more.

    Raises InvalidArgument where the graph has no such tensor, or one of another type.
    """
    info = session.tensor_info(name)
    if declared is None:
        return info
    if info.dtype != declared.dtype:
        raise InvalidArgument(
            f"{SIGNATURE_FILE}: {name!r} is declared {declared.dtype.label}, "
            f"which the tensor in the graph is not"
        )
    if declared.shape is not None:
        shape = tf.TensorShape(declared.shape)
        if not shape.is_compatible_with(tf.TensorShape(info.tensor_shape)):
            raise InvalidArgument(
                f"{SIGNATURE_FILE}: {name!r} is declared of shape {shape}, "
                "which the tensor in the graph can not have"
            )
        info.tensor_shape.CopyFrom(shape.as_proto())
    return info


def _placeholders(graph: GraphDef) -> list[str]:
    """The placeholders that something depends on."""
    used = _used(graph)
    return [node.name for node in graph.node if node.op in _PLACEHOLDERS and node.name in used]


def _results(graph: GraphDef, session: TensorFlowSession) -> list[str]:
    """What the nodes compute that nothing depends on.

    The first output of a node goes by the node's name, the others have their number behind it.
    """
    used = _used(graph)
    ends = [node for node in graph.node if node.op not in _NO_RESULTS and node.name not in used]
    return [name.removesuffix(":0") for node in ends for name in session.output_names(node.name)]


def _used(graph: GraphDef) -> set[str]:
    """The names of the nodes that others depend on."""
    inputs = (name for node in graph.node for name in node.input)
    return {name.removeprefix("^").partition(":")[0] for name in inputs}
