"""A static source aspires to its one version when it is connected."""

from collections.abc import Sequence

from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.sources.static_source import StaticStoragePathSource


def test_connecting_emits_the_version_once() -> None:
    emitted: list[tuple[str, Sequence[ServableData[str]]]] = []
    source = StaticStoragePathSource(ServableId("m", 7), "/models/m/7")
    source.connect(lambda name, versions: emitted.append((name, versions)))
    assert emitted == [("m", [ServableData(ServableId("m", 7), "/models/m/7")])]
