"""What TensorFlow's models are written in, told by the files of a version."""

from __future__ import annotations

from collections.abc import Sequence

from serving.loaders.tensorflow_export import Export
from serving.loaders.tensorflow_graph_def import GraphDefExport, graph_def_file
from serving.loaders.tensorflow_saved_model import SavedModelExport, has_saved_model
from serving.loaders.tensorflow_session_bundle import SessionBundle, has_session_bundle


def read_export(path: str, tags: Sequence[str]) -> Export:
    """What lies in the directory, looked at and not yet restored.

    A SavedModel comes before a SessionBundle, which comes before a graph alone. Raises as their
    classes do; NotFound, as for a missing SavedModel, where there is none of them.
    """
    if not has_saved_model(path):
        if has_session_bundle(path):
            return SessionBundle(path)
        if file := graph_def_file(path):
            return GraphDefExport(path, file)
    return SavedModelExport(path, tags)
