"""Writes SessionBundles, with the calls that export programs of TensorFlow's first year make.

For programs that feed servers of that time too; this server takes SavedModels just as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from serving.generated.session_bundle_manifest_pb2 import AssetFile, Signature, Signatures

_NAME = "export"
_ASSETS = "assets"
_VERSION_DIGITS = 8

VersionFilter = Callable[[Sequence[int]], Iterable[int]]
"""Which of these versions, in ascending order, to keep."""


AssetsCallback = Callable[[Mapping[str, str], str], object]
"""Puts files, by their paths, with their names into a directory, whose path comes second."""


def regression_signature(input_tensor: Any, output_tensor: Any) -> Signature:
    """One number for each input."""
    signature = Signature()
    signature.regression_signature.input.tensor_name = input_tensor.name
    signature.regression_signature.output.tensor_name = output_tensor.name
    return signature


def classification_signature(
    input_tensor: Any, classes_tensor: Any = None, scores_tensor: Any = None
) -> Signature:
    """Labels, scores, or both, for each input."""
    signature = Signature()
    signature.classification_signature.input.tensor_name = input_tensor.name
    if classes_tensor is not None:
        signature.classification_signature.classes.tensor_name = classes_tensor.name
    if scores_tensor is not None:
        signature.classification_signature.scores.tensor_name = scores_tensor.name
    return signature


def generic_signature(name_tensor_map: Mapping[str, Any]) -> Signature:
    """Tensors by alias; two of these, named ``inputs`` and ``outputs``, serve Predict."""
    signature = Signature()
    for name, tensor in name_tensor_map.items():
        signature.generic_signature.map[name].tensor_name = tensor.name
    return signature


def largest_export_versions(count: int) -> VersionFilter:
    """Keeps so many of the latest versions."""
    return lambda versions: versions[-count:] if count > 0 else []


class Exporter:
    """Writes versions of one graph. ``saver`` is a tf.compat.v1.train.Saver, sharded or not, of
    either checkpoint format. Not thread-safe.
    """

    def __init__(self, saver: Any) -> None:
        definition = saver.as_saver_def()
        definition.max_to_keep = 0  # a version is never deleted for a later one
        self._saver = tf.compat.v1.train.Saver(saver_def=definition)
        self._collections: dict[str, Sequence[Message]] | None = None
        self._init_op = ""
        self._asset_files: dict[str, Path] = {}
        self._assets_callback: AssetsCallback = _copy_assets

    def init(  # noqa: PLR0917 - programs of that time may give them by position
        self,
        graph_def: GraphDef | None = None,
        init_op: tf.Operation | None = None,
        clear_devices: bool = False,
        default_graph_signature: Signature | None = None,
        named_graph_signatures: Mapping[str, Signature] | None = None,
        assets_collection: Iterable[Any] | None = None,
        assets_callback: AssetsCallback | None = None,
    ) -> None:
        """Say what is exported: once, before the first export.

        ``graph_def`` is what servers run, else the default graph, without its devices when they
        are cleared. ``init_op`` runs after the variables were restored. ``assets_collection``
        holds constant string scalars, each the path of a file that is to travel with the export;
        ``assets_callback`` puts the files there, instead of a copy of each.
        Raises RuntimeError for a second call, ValueError for two assets of one name.
        """
        if self._collections is not None:
            raise RuntimeError("init should be called only once")
        signatures = Signatures(named_signatures=named_graph_signatures)
        if default_graph_signature is not None:
            signatures.default_signature.CopyFrom(default_graph_signature)
        self._collections = {"serving_signatures": [signatures]}
        if graph_def is not None or clear_devices:
            graph = _copy_of(graph_def, clear_devices=clear_devices)
            self._collections["serving_graph"] = [graph]
        if assets := [self._asset(tensor) for tensor in assets_collection or ()]:
            self._collections["serving_assets"] = assets
        self._init_op = init_op.name if init_op is not None else ""
        self._assets_callback = assets_callback or _copy_assets

    def export(
        self,
        export_dir_base: str | Path,
        version: int | tf.Tensor,
        sess: Any,
        exports_to_keep: VersionFilter | None = None,
    ) -> Path:
        """Write a version, which appears when it is whole; returns its directory.

        A ``version`` that is a tensor has the value that it has in the session. Other versions that
        ``exports_to_keep`` does not want are deleted. Raises RuntimeError for a version that exists
        already, or before ``init``, FileExistsError for one that was begun and not ended: delete
        its directory, which ends with ``-tmp``.
        """
        base = Path(export_dir_base)
        number = int(sess.run(version)) if tf.is_tensor(version) else version
        directory = base / f"{number:0{_VERSION_DIGITS}}"
        if self._collections is None:
            raise RuntimeError("init must be called first")
        if directory.exists():
            raise RuntimeError(f"a version is never exported over: {directory} exists already")
        unfinished = directory.with_name(f"{directory.name}-tmp")
        unfinished.mkdir(parents=True)
        self._saver.save(sess, str(unfinished / _NAME), write_meta_graph=False)
        meta_graph = self._meta_graph(sess, self._collections)
        (unfinished / f"{_NAME}.meta").write_bytes(meta_graph.SerializeToString())
        if self._asset_files:
            (unfinished / _ASSETS).mkdir()
            paths = {str(source): name for name, source in self._asset_files.items()}
            self._assets_callback(paths, str(unfinished / _ASSETS))
        unfinished.rename(directory)
        if exports_to_keep is not None:
            _keep(base, exports_to_keep)
        return directory

    def _meta_graph(self, sess: Any, collections: Mapping[str, Iterable[Message]]) -> MetaGraphDef:
        meta_graph: MetaGraphDef = tf.compat.v1.train.export_meta_graph(
            graph=sess.graph, saver_def=self._saver.saver_def, collection_list=[]
        )
        for key, messages in collections.items():
            for message in messages:
                meta_graph.collection_def[key].any_list.value.add().Pack(message)
        if self._init_op:
            meta_graph.collection_def["serving_init_op"].node_list.value.append(self._init_op)
        return meta_graph

    def _asset(self, tensor: Any) -> AssetFile:
        source = Path(tf.get_static_value(tensor).item().decode())
        if self._asset_files.setdefault(source.name, source) != source:
            raise ValueError(f"there are two assets of the name {source.name}")
        asset = AssetFile(filename=source.name)
        asset.tensor_binding.tensor_name = tensor.name
        return asset


def _copy_assets(paths: Mapping[str, str], directory: str) -> None:
    for source, name in paths.items():
        shutil.copyfile(source, Path(directory) / name)


def _copy_of(graph_def: GraphDef | None, *, clear_devices: bool) -> GraphDef:
    copy = GraphDef()
    copy.CopyFrom(graph_def or tf.compat.v1.get_default_graph().as_graph_def())
    if clear_devices:
        for node in copy.node:
            node.device = ""
    return copy


def _keep(base: Path, wanted: VersionFilter) -> None:
    versions = {
        int(child.name): child
        for child in base.iterdir()
        if len(child.name) == _VERSION_DIGITS and child.name.isdecimal()
    }
    for version in versions.keys() - set(wanted(sorted(versions))):
        shutil.rmtree(versions[version])
