"""SessionBundles: the exports of TensorFlow's first year, before there were SavedModels.

``export.meta`` holds a MetaGraphDef, in whose collections lie the graph to serve, signatures, the
operation that initialises, and the names of asset files; the variables are in a checkpoint beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from serving.core.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    error_for,
)
from serving.generated.session_bundle_manifest_pb2 import AssetFile, Signatures
from serving.loaders.tensorflow_bundle_signatures import signature_defs
from serving.loaders.tensorflow_export import RestoredGraph, exists, parsed, read
from serving.loaders.tensorflow_session import TensorFlowSession

_META_GRAPH = "export.meta"
_VARIABLES, _SHARDED_VARIABLES = "export", "export-?????-of-?????"
_INDEX = "export.index"  # of a checkpoint in the newer of the two formats
_ASSETS = "assets"
_GRAPH_KEY = "serving_graph"
_SIGNATURES_KEY = "serving_signatures"
_ASSETS_KEY = "serving_assets"
_INIT_OP_KEY = "serving_init_op"

M = TypeVar("M", bound=Message)


def has_session_bundle(path: str) -> bool:
    """Whether the directory holds a SessionBundle, sound or not."""
    return exists(path, _META_GRAPH)


class SessionBundle:
    """A SessionBundle, its ``export.meta`` read.

    Raises DataLoss for what does not parse, FailedPrecondition for collections that hold something
    else than they should, InvalidArgument for asset files outside of the export, NotFound for such
    that are missing, tf.errors.OpError when reading fails.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        content = read(tf.io.gfile.join(path, _META_GRAPH))
        self._meta_graph = parsed(content, MetaGraphDef, _META_GRAPH)
        self._graph = self._only(_GRAPH_KEY, GraphDef) or self._meta_graph.graph_def
        if not self._graph.node:
            raise InvalidArgument(f"{_META_GRAPH} has no graph")
        self._signatures = self._only(_SIGNATURES_KEY, Signatures) or Signatures()
        self._init_op = self._read_init_op()
        self._assets = {
            asset.tensor_binding.tensor_name: _string(self._asset_path(asset.filename))
            for asset in self._messages(_ASSETS_KEY, AssetFile)
        }

    def restore(self, session: TensorFlowSession) -> RestoredGraph:
        """Variables by the restore operation of the export, which is fed where they lie; then the
        operation that initialises runs. Both are fed the paths of the asset files.
        """
        session.add_graph(self._graph, self._meta_graph.meta_info_def.stripped_op_list)
        saver = self._meta_graph.saver_def
        if saver.restore_op_name:
            where = {saver.filename_tensor_name: _string(self._variables_path())}
            self._run(session, {**where, **self._assets}, saver.restore_op_name)
        if self._init_op:
            self._run(session, self._assets, self._init_op)
        signatures = signature_defs(self._signatures, session.tensor_info)
        assets = {tensor: path.item().decode() for tensor, path in self._assets.items()}
        return RestoredGraph(self._graph, signatures, self._init_op, assets)

    def _run(
        self, session: TensorFlowSession, feeds: Mapping[str, np.ndarray], operation: str
    ) -> None:
        try:
            session.run_nodes(feeds, [], [operation], b"")
        except ServingError as error:
            # The runtime says which files it could not read, and where the server has them.
            raise error_for(error.code, error.message.replace(f"{self._path}/", "")) from error

    def _only(self, key: str, message: type[M]) -> M | None:
        """The one message of a collection; None where there is no such collection."""
        if key not in self._meta_graph.collection_def:
            return None
        found = self._messages(key, message)
        if len(found) != 1:
            raise FailedPrecondition(
                f"Expected exactly one {message.DESCRIPTOR.full_name} in collection {key} of "
                f"{_META_GRAPH}, found {len(found)}"
            )
        return found[0]

    def _messages(self, key: str, message: type[M]) -> Sequence[M]:
        if key not in self._meta_graph.collection_def:
            return []
        found = []
        for packed in self._meta_graph.collection_def[key].any_list.value:
            unpacked = message()
            try:
                if not packed.Unpack(unpacked):
                    raise FailedPrecondition(
                        f"Expected Any type_url for: {message.DESCRIPTOR.full_name}. "
                        f"Got: {packed.type_url}."
                    )
            except DecodeError:
                raise DataLoss(f"Failed to unpack collection {key} of {_META_GRAPH}") from None
            found.append(unpacked)
        return found

    def _read_init_op(self) -> str:
        """The name of the operation that initialises; empty where there is none."""
        if _INIT_OP_KEY not in self._meta_graph.collection_def:
            return ""
        names = self._meta_graph.collection_def[_INIT_OP_KEY].node_list.value
        if len(names) != 1:
            raise FailedPrecondition(
                f"Expected exactly one serving init op in {_META_GRAPH}, found {len(names)}"
            )
        return str(names[0])

    def _asset_path(self, filename: str) -> str:
        place = PurePosixPath(filename)
        path = str(tf.io.gfile.join(self._path, _ASSETS, filename))
        if not place.name or place.is_absolute() or ".." in place.parts or _leads_out(path, place):
            raise InvalidArgument(
                f"asset file {filename!r} of {_META_GRAPH} is not below the directory {_ASSETS}"
            )
        if not tf.io.gfile.exists(path):
            raise NotFound(f"asset file {filename!r} of {_META_GRAPH} does not exist")
        return path

    def _variables_path(self) -> str:
        """The checkpoint's name, which of a sharded one is a pattern."""
        whole = exists(self._path, _VARIABLES) or exists(self._path, _INDEX)
        return str(tf.io.gfile.join(self._path, _VARIABLES if whole else _SHARDED_VARIABLES))


def _leads_out(path: str, place: PurePosixPath) -> bool:
    """Whether links end outside of the assets' directory, which may be none itself.

    A store's paths, which this machine's file system does not know, have no links.
    """
    assets = Path(path).parents[len(place.parts)].resolve() / _ASSETS
    return not Path(path).resolve().is_relative_to(assets)


def _string(text: str) -> np.ndarray:
    return np.array(text.encode(), object)
