"""Paths become loaders one by one, and failures travel on in their place."""

from collections.abc import Sequence

from serving.core.errors import Internal, InvalidArgument
from serving.core.loader import Loader
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.loaders.platform_adapter import ErrorInjectingAdapter, PlatformAdapter
from serving.testing import FakeLoader

M1, M2, M3 = (ServableId("m", version) for version in (1, 2, 3))


class Downstream:
    def __init__(self) -> None:
        self.got: dict[ServableId, object] = {}

    def take(self, name: str, versions: Sequence[ServableData[Loader]]) -> None:
        self.got = {data.id: data.payload for data in versions}


def test_each_path_becomes_a_loader_and_a_failing_one_its_error() -> None:
    refused, passed = InvalidArgument("no such platform"), InvalidArgument("unreadable")

    def make(path: str) -> FakeLoader:
        if path == "bad":
            raise refused
        return FakeLoader()

    downstream = Downstream()
    PlatformAdapter(make, downstream.take).aspired_versions(
        "m", [ServableData(M1, "good"), ServableData(M2, "bad"), ServableData(M3, passed)]
    )
    assert isinstance(downstream.got[M1], FakeLoader)
    assert downstream.got[M2] is refused
    assert downstream.got[M3] is passed


def test_a_defect_in_making_a_loader_keeps_its_details() -> None:
    def make(path: str) -> FakeLoader:
        raise RuntimeError("/secret")

    downstream = Downstream()
    PlatformAdapter(make, downstream.take).aspired_versions("m", [ServableData(M1, "path")])
    error = downstream.got[M1]
    assert isinstance(error, Internal)
    assert error.message == "no loader for {name: m version: 1}: RuntimeError"


def test_the_error_injecting_adapter_replaces_every_payload() -> None:
    downstream = Downstream()
    error = Internal("No platform found for model")
    ErrorInjectingAdapter(error, downstream.take).aspired_versions("m", [ServableData(M1, "path")])
    assert downstream.got == {M1: error}
