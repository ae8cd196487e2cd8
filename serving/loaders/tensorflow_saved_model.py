"""What lies in a SavedModel's directory, looked at before it is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from serving.core.errors import DataLoss, NotFound, Unimplemented


def check_saved_model(path: str, tags: Sequence[str]) -> None:
    """See that the directory holds a SavedModel with exactly one graph of this tag set.

    Raises Unimplemented for a SessionBundle, NotFound without a SavedModel or such a graph,
    DataLoss for a file that does not parse, tf.errors.OpError when reading fails.
    """
    wanted = set(tags)
    if any(set(graph.meta_info_def.tags) == wanted for graph in _read(path).meta_graphs):
        return
    raise NotFound(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect "
        "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def _read(path: str) -> SavedModel:
    if _exists(path, "export.meta"):
        raise Unimplemented("Session Bundle is deprecated and removed.")
    if _exists(path, "saved_model.pb"):
        return _parse_binary(tf.io.gfile.join(path, "saved_model.pb"))
    if _exists(path, "saved_model.pbtxt"):
        return _parse_text(tf.io.gfile.join(path, "saved_model.pbtxt"))
    raise NotFound(
        "Specified file path does not appear to contain a SavedModel bundle (should have a file "
        f"called `saved_model.pb`)\nSpecified file path: {path}"
    )


def _exists(path: str, name: str) -> bool:
    return bool(tf.io.gfile.exists(tf.io.gfile.join(path, name)))


def _parse_binary(file: str) -> SavedModel:
    with tf.io.gfile.GFile(file, "rb") as opened:
        encoded = opened.read()
    try:
        return SavedModel.FromString(encoded)
    except DecodeError:
        raise DataLoss(f"Can't parse {file} as binary proto") from None


def _parse_text(file: str) -> SavedModel:
    with tf.io.gfile.GFile(file, "rb") as opened:
        encoded = opened.read()
    try:
        return text_format.Parse(encoded, SavedModel())
    except text_format.ParseError:
        raise DataLoss(f"Can't parse {file} as text proto") from None
