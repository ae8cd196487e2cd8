"""What the file of a SavedModel says of its graphs, none of which is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from serving.core.servable import Signature
from serving.loaders.tensorflow_saved_model import has_saved_model, read_saved_model
from serving.loaders.tensorflow_signatures import signatures_of


class DescribedGraph(NamedTuple):
    """One graph: its tags, its signatures by name, and the kinds of operations that it has."""

    tags: list[str]
    signatures: Mapping[str, Signature]
    operations: list[str]


def described_graphs(path: str) -> Iterator[DescribedGraph]:
    """The graphs of the SavedModel in the directory; none where there is no SavedModel.

    Raises DataLoss for a file that does not parse, InvalidArgument for a signature of types that
    are not supported.
    """
    if not has_saved_model(path):
        return
    for graph in read_saved_model(path).meta_graphs:
        yield DescribedGraph(
            list(graph.meta_info_def.tags),
            signatures_of(graph.signature_def),
            sorted(_operations(graph)),
        )


def _operations(graph: MetaGraphDef) -> set[str]:
    """Those of functions too, of which a graph of TensorFlow 2 mostly consists; but no calls."""
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for each in functions for node in each.node_def)]
    return {node.op for node in nodes} - {each.signature.name for each in functions}
