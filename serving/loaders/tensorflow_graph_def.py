"""Graphs alone: a GraphDef whose variables have been made constants, in one ``.pb`` file."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.core.errors import InvalidArgument
from serving.core.servable import DEFAULT_SIGNATURE
from serving.loaders.tensorflow_export import RestoredGraph, read_message
from serving.loaders.tensorflow_session import TensorFlowSession

_PREDICT_METHOD = "tensorflow/serving/predict"
_BESIDE_SAVED_MODELS = frozenset({"saved_model.pb", "fingerprint.pb", "keras_metadata.pb"})
_INPUTS = frozenset({"Placeholder", "PlaceholderV2"})
_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_NO_RESULTS = _INPUTS | {"Const", "PlaceholderWithDefault"}


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
    """A graph alone, and its one signature, read from it: what it has to be fed, and what nothing
    else in it uses.

    Raises DataLoss for a file that does not parse, InvalidArgument for a graph that has variables,
    or nothing to compute, tf.errors.OpError when reading fails.
    """

    def __init__(self, path: str, file: str) -> None:
        self._file = file
        self._graph = read_message(tf.io.gfile.join(path, file), GraphDef)
        for node in self._graph.node:
            if node.op in _VARIABLES:
                raise InvalidArgument(
                    f"{file} has variables, of which {node.name} is one, and nothing says what "
                    "they hold: freeze the graph first"
                )
        self._inputs = list(_inputs(self._graph))
        self._outputs = list(_outputs(self._graph))
        if not self._outputs:
            raise InvalidArgument(f"{file} is no graph that computes anything")

    def restore(self, session: TensorFlowSession) -> RestoredGraph:
        """There is nothing to restore beyond the graph."""
        session.add_graph(self._graph)
        signature = SignatureDef(method_name=_PREDICT_METHOD)
        for node in self._inputs:
            signature.inputs[node.name].CopyFrom(session.tensor_info(f"{node.name}:0"))
        for node in self._outputs:
            for name in session.output_names(node.name):
                signature.outputs[_alias(name)].CopyFrom(session.tensor_info(name))
        if not signature.outputs:
            raise InvalidArgument(f"{self._file} computes no tensor")
        return RestoredGraph(self._graph, {DEFAULT_SIGNATURE: signature})


def _inputs(graph: GraphDef) -> Iterator[NodeDef]:
    """The placeholders that something depends on."""
    used = {_node_of(name) for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op in _INPUTS and node.name in used:
            yield node


def _outputs(graph: GraphDef) -> Iterator[NodeDef]:
    """The nodes that nothing depends on."""
    used = {_node_of(name) for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op not in _NO_RESULTS and node.name not in used:
            yield node


def _node_of(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]


def _alias(tensor: str) -> str:
    """The first output of an operation goes by the operation's name."""
    return tensor.removesuffix(":0")
