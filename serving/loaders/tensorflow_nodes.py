"""One run of a session by the names of nodes, with all that such a run can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from serving.core.dtypes import numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.graph_session import NodesRun
from serving.loaders.tensorflow_step import arrays_of, check_type, element_type, tensor_of


class NodesSession(Protocol):
    """The way into TensorFlow's runtime that takes everything; raises tf.errors.OpError."""

    graph: tf.Graph

    def endpoint(self, tensor: tf.Tensor) -> Any: ...

    def run_told(
        self,
        feeds: dict[Any, np.ndarray],
        fetches: list[Any],
        targets: list[tf.Operation],
        options: bytes,
    ) -> tuple[list[Any], bytes]: ...


def run_nodes(
    session: NodesSession,
    feeds: Mapping[str, np.ndarray],
    fetches: Sequence[str],
    targets: Sequence[str],
    options: bytes,
) -> NodesRun:
    """As :meth:`serving.core.graph_session.GraphSession.run_nodes`; nothing is kept of it."""
    graph = session.graph
    feed_tensors = {name: tensor_of(graph, name) for name in sorted(feeds)}
    for index, (name, tensor) in enumerate(feed_tensors.items()):
        check_type(index, element_type(tensor.dtype), feeds[name])
    fetch_tensors = {name: tensor_of(graph, name) for name in fetches}
    dtypes = [numpy_dtype(element_type(tensor.dtype)) for tensor in fetch_tensors.values()]
    values, metadata = session.run_told(
        {session.endpoint(tensor): feeds[name] for name, tensor in feed_tensors.items()},
        [session.endpoint(tensor) for tensor in fetch_tensors.values()],
        [_operation(graph, name) for name in targets],
        options,
    )
    arrays = dict(zip(fetch_tensors, arrays_of(values, dtypes), strict=True))
    return NodesRun([arrays[name] for name in fetches], metadata)


def _operation(graph: tf.Graph, name: str) -> tf.Operation:
    try:
        return graph.get_operation_by_name(name)
    except (KeyError, ValueError):
        raise InvalidArgument(
            f"Operation {name}, specified as a target, was not found in the Graph"
        ) from None
