"""Payloads are converted one by one, and failures travel on in their place."""

import threading
from collections.abc import Sequence

from waiting import WAIT_SECONDS

from serving.core.errors import Internal, InvalidArgument
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.core.source_adapter import UnarySourceAdapter, error_injecting, path_prefixing

M1, M2, M3 = (ServableId("m", version) for version in (1, 2, 3))


class Downstream:
    def __init__(self) -> None:
        self.got: list[tuple[str, list[ServableData[object]]]] = []

    def take(self, name: str, versions: Sequence[ServableData[object]]) -> None:
        self.got.append((name, list(versions)))


def test_each_payload_is_converted_and_a_failing_one_becomes_its_error() -> None:
    refused, passed = InvalidArgument("no such platform"), InvalidArgument("unreadable")

    def shout(path: str) -> str:
        if path == "bad":
            raise refused
        return path.upper()

    downstream = Downstream()
    adapter = UnarySourceAdapter(shout)
    adapter.connect(downstream.take)
    adapter.aspired_versions(
        "m", [ServableData(M1, "good", 7), ServableData(M2, "bad"), ServableData(M3, passed, 2)]
    )
    assert downstream.got == [
        ("m", [ServableData(M1, "GOOD", 7), ServableData(M2, refused), ServableData(M3, passed, 2)])
    ]


def test_an_empty_list_travels_on() -> None:
    downstream = Downstream()
    adapter = path_prefixing("/p")
    adapter.connect(downstream.take)
    adapter.aspired_versions("m", [])
    assert downstream.got == [("m", [])]


def test_a_defect_in_the_conversion_keeps_its_details() -> None:
    def explode(path: str) -> str:
        raise RuntimeError("/secret")

    downstream = Downstream()
    adapter = UnarySourceAdapter(explode)
    adapter.connect(downstream.take)
    adapter.aspired_versions("m", [ServableData(M1, "path")])
    ((_, (data,)),) = downstream.got
    assert isinstance(data.payload, Internal)
    assert data.payload.message == "no loader for {name: m version: 1}: RuntimeError"


def test_what_arrives_before_there_is_a_target_waits_for_it() -> None:
    downstream = Downstream()
    adapter = path_prefixing("")
    early = threading.Thread(
        target=adapter.aspired_versions, args=("m", [ServableData(M1, "path")]), daemon=True
    )
    early.start()
    early.join(0.05)
    assert early.is_alive()
    adapter.connect(downstream.take)
    early.join(WAIT_SECONDS)
    assert downstream.got == [("m", [ServableData(M1, "path")])]


def test_an_error_injecting_adapter_replaces_every_payload() -> None:
    downstream = Downstream()
    error = Internal("No platform found for model")
    adapter = error_injecting(error)
    adapter.connect(downstream.take)
    adapter.aspired_versions("m", [ServableData(M1, "path"), ServableData(M2, "path")])
    assert downstream.got == [("m", [ServableData(M1, error), ServableData(M2, error)])]


def test_a_prefix_is_joined_to_every_path_with_one_slash() -> None:
    for prefix, path, expected in [
        ("/models", "m/1", "/models/m/1"),
        ("/models/", "/m/1", "/models/m/1"),
        ("", "/m/1", "/m/1"),
    ]:
        downstream = Downstream()
        adapter = path_prefixing(prefix)
        adapter.connect(downstream.take)
        adapter.aspired_versions("m", [ServableData(M1, path)])
        assert downstream.got == [("m", [ServableData(M1, expected)])]
