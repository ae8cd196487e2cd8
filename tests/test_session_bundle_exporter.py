"""The exporter of SessionBundles: what it writes, what it keeps, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import session_bundles as bundles
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from serving.generated.session_bundle_manifest_pb2 import Signatures
from serving.session_bundle_exporter import (
    Exporter,
    largest_export_versions,
    regression_signature,
)

v1 = tf.compat.v1


@pytest.fixture
def session() -> Iterator[Any]:
    """Of a graph with one variable and a file's name, as the default."""
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("a", initializer=0.5, use_resource=False)
        session.run(v1.global_variables_initializer())
        yield session


def exporter_of(session: Any, **init: Any) -> Exporter:
    exporter = Exporter(v1.train.Saver(**bundles.SHARDED_V1))
    exporter.init(**init)
    return exporter


def files_below(directory: Path) -> list[str]:
    files = (file for file in directory.rglob("*") if file.is_file())
    return sorted(str(file.relative_to(directory)) for file in files)


def test_files_have_the_names_of_the_format(session: Any, tmp_path: Path) -> None:
    asset = tmp_path / "words.txt"
    asset.write_text("a")
    exporter = exporter_of(session, assets_collection=[tf.constant(str(asset))])
    assert exporter.export(tmp_path / "m", 3, session) == tmp_path / "m" / "00000003"
    assert files_below(tmp_path / "m") == [
        f"00000003/{name}"
        for name in ("assets/words.txt", "checkpoint", "export-00000-of-00001", "export.meta")
    ]


def test_a_version_may_be_a_tensor_and_there_may_be_no_assets(session: Any, tmp_path: Path) -> None:
    """As export programs of that time have it."""
    exporter = exporter_of(session, assets_collection=None)
    version = tf.constant(7)
    assert exporter.export(str(tmp_path), version, session).name == "00000007"


def test_init_takes_its_arguments_in_the_order_of_that_time(session: Any, tmp_path: Path) -> None:
    exporter = Exporter(v1.train.Saver(**bundles.SHARDED_V1))
    a = session.graph.get_tensor_by_name("a:0")
    exporter.init(session.graph.as_graph_def(), None, True, regression_signature(a, a), {}, ())
    directory = exporter.export(tmp_path, 1, session)
    meta_graph = MetaGraphDef.FromString((directory / "export.meta").read_bytes())
    signatures = Signatures()
    assert meta_graph.collection_def["serving_signatures"].any_list.value[0].Unpack(signatures)
    assert signatures.default_signature.regression_signature.input.tensor_name == "a:0"


def test_assets_may_be_put_there_by_the_program(session: Any, tmp_path: Path) -> None:
    source = str(tmp_path / "words.txt")
    given = []

    def put(paths: Mapping[str, str], directory: str) -> None:
        given.append(dict(paths))
        (Path(directory) / "words.txt").write_text("made")

    exporter = exporter_of(session, assets_collection=[tf.constant(source)], assets_callback=put)
    directory = exporter.export(tmp_path / "m", 1, session)
    assert given == [{source: "words.txt"}]
    assert (directory / "assets" / "words.txt").read_text() == "made"


def test_a_version_that_was_begun_and_not_ended_is_in_the_way(session: Any, tmp_path: Path) -> None:
    (tmp_path / "00000001-tmp").mkdir()
    with pytest.raises(FileExistsError, match="00000001-tmp"):
        exporter_of(session).export(tmp_path, 1, session)


def test_a_graph_without_devices_goes_into_a_collection_of_its_own(
    session: Any, tmp_path: Path
) -> None:
    with tf.device("/device:CPU:0"):
        tf.constant(1, name="c")
    directory = exporter_of(session, clear_devices=True).export(tmp_path, 1, session)
    meta_graph = MetaGraphDef.FromString((directory / "export.meta").read_bytes())
    graph = GraphDef()
    assert meta_graph.collection_def["serving_graph"].any_list.value[0].Unpack(graph)
    assert {node.device for node in graph.node} == {""}


def test_only_the_latest_versions_are_kept(session: Any, tmp_path: Path) -> None:
    exporter = exporter_of(session)
    (tmp_path / "notes").mkdir()
    for version in (1, 2, 10):
        exporter.export(tmp_path, version, session)
    exporter.export(tmp_path, 11, session, largest_export_versions(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000010", "00000011", "notes"]


def test_a_version_is_never_exported_over(session: Any, tmp_path: Path) -> None:
    exporter = exporter_of(session)
    exporter.export(tmp_path, 1, session)
    with pytest.raises(RuntimeError, match="never exported over"):
        exporter.export(tmp_path, 1, session)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]


def test_what_is_exported_is_said_once_and_first(session: Any, tmp_path: Path) -> None:
    exporter = Exporter(v1.train.Saver(**bundles.SHARDED_V1))
    with pytest.raises(RuntimeError, match="init must be called first"):
        exporter.export(tmp_path, 1, session)
    x = tf.constant([1.0])
    exporter.init(default_graph_signature=regression_signature(x, x))
    with pytest.raises(RuntimeError, match="only once"):
        exporter.init()


def test_two_assets_of_one_name_are_refused(session: Any, tmp_path: Path) -> None:
    paths = [tf.constant(str(tmp_path / folder / "words.txt")) for folder in ("a", "b")]
    with pytest.raises(ValueError, match=r"two assets of the name words\.txt"):
        exporter_of(session, assets_collection=paths)
