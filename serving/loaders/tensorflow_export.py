"""A model as some program of TensorFlow's wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.core.errors import DataLoss
from serving.loaders.tensorflow_session import TensorFlowSession

M = TypeVar("M", bound=Message)


class RestoredGraph(NamedTuple):
    """What a session holds, ready to run, and the ways to call it by name.

    ``init_op`` has run, where there is one; ``assets`` are the paths of the files that it was fed,
    by tensor.
    """

    graph: GraphDef
    signatures: Mapping[str, SignatureDef]
    init_op: str = ""
    assets: Mapping[str, str] = {}


class Export(Protocol):
    """Files that were found to hold a model."""

    def restore(self, session: TensorFlowSession) -> RestoredGraph:
        """Put the graph into the session, which is new, and give its variables their values.

        Raises ServingError or tf.errors.OpError.
        """


def exists(path: str, name: str) -> bool:
    """Whether the directory holds a file of this name."""
    return bool(tf.io.gfile.exists(tf.io.gfile.join(path, name)))


def read(file: str) -> bytes:
    """Everything in a file. Raises tf.errors.OpError."""
    with tf.io.gfile.GFile(file, "rb") as opened:
        content: bytes = opened.read()
    return content


def parsed(content: bytes, message: type[M], name: str) -> M:
    """The message that a file of this name holds. Raises DataLoss for what does not parse."""
    try:
        return message.FromString(content)
    except DecodeError:
        raise DataLoss(f"Can't parse {name} as binary proto") from None
