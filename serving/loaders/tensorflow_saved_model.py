"""SavedModels: what lies in their directory is looked at before it is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from serving.core.errors import DataLoss, NotFound
from serving.loaders.tensorflow_export import RestoredGraph, exists, parsed, read
from serving.loaders.tensorflow_session import TensorFlowSession

_BINARY, _TEXT = "saved_model.pb", "saved_model.pbtxt"
_ELSEWHERE = re.compile("/job:(?!localhost)")


def has_saved_model(path: str) -> bool:
    """Whether the directory holds a SavedModel, sound or not."""
    return exists(path, _BINARY) or exists(path, _TEXT)


class SavedModelExport:
    """A SavedModel with exactly one graph of this tag set.

    Raises NotFound without a SavedModel or such a graph, DataLoss for a file that does not parse,
    tf.errors.OpError when reading fails.
    """

    def __init__(self, path: str, tags: Sequence[str]) -> None:
        self._path = path
        self._tags = tags
        wanted = set(tags)
        for graph in read_saved_model(path).meta_graphs:
            if set(graph.meta_info_def.tags) == wanted:
                self._is_distributed = _names_other_machines(graph.graph_def)
                return
        raise NotFound(
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To "
            "inspect available tag-sets in the SavedModel, please use the SavedModel CLI: "
            "`saved_model_cli`"
        )

    def restore(self, session: TensorFlowSession) -> RestoredGraph:
        """By TensorFlow's own loader, which checks that the graph holds together."""
        meta_graph = session.load(self._tags, self._path, clear_devices=self._is_distributed)
        return RestoredGraph(meta_graph.graph_def, meta_graph.signature_def)


def read_saved_model(path: str) -> SavedModel:
    """The file, parsed. Raises as the class above."""
    if exists(path, _BINARY):
        file = tf.io.gfile.join(path, _BINARY)
        return parsed(read(file), SavedModel, file)
    if exists(path, _TEXT):
        return _parse_text(tf.io.gfile.join(path, _TEXT))
    raise NotFound(
        "Specified file path does not appear to contain a SavedModel bundle (should have a file "
        f"called `saved_model.pb`)\nSpecified file path: {path}"
    )


def _parse_text(file: str) -> SavedModel:
    try:
        return text_format.Parse(read(file), SavedModel())
    except text_format.ParseError:
        raise DataLoss(f"Can't parse {file} as text proto") from None


def _names_other_machines(graph: GraphDef) -> bool:
    """Whether it was trained on several: TensorFlow then finds no place here for variables, and
    for what has to be where they are.
    """
    return any(_ELSEWHERE.match(node.device) for node in graph.node)
