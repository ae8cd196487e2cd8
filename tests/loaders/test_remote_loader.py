"""Versions that lie elsewhere: fetched first, held while loaded, let go afterwards."""

from __future__ import annotations

import pytest

from serving.core.errors import Gone, NotFound, Unavailable
from serving.core.loader import Loader
from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId
from serving.loaders.remote_loader import RemoteLoader
from serving.testing import FakeLoader

ID = ServableId("m", 1)
NEEDS = ResourceAllocation.ram(7)


class Copies:
    """Hands out copies, or fails; counts those that are held."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.fetched: list[str] = []
        self.held = 0
        self.path = "/cache/copy"
        self.stored_bytes = 1000

    def size_bytes(self, uri: str) -> int:
        if self.failures:
            raise self.failures[0]
        return self.stored_bytes

    def lease(self, uri: str) -> Copies:
        self.fetched.append(uri)
        if self.failures:
            raise self.failures.pop(0)
        self.held += 1
        return self

    def release(self) -> None:
        self.held -= 1


def remote(copies: Copies, inner: Loader) -> RemoteLoader:
    def make_loader(path: str) -> Loader:
        assert path == "/cache/copy"
        return inner

    return RemoteLoader("s3://b/m/1", copies, make_loader)


def test_before_the_load_the_stored_size_is_the_estimate_and_nothing_is_fetched():
    copies = Copies()
    loader = remote(copies, FakeLoader(resources=NEEDS))
    assert loader.estimate_resources() == ResourceAllocation.ram(1200)
    assert loader.servable is None
    assert copies.fetched == []


def test_a_store_that_can_not_be_reached_does_not_fail_the_estimate_but_the_load():
    copies = Copies()
    copies.failures = [Unavailable("down")]
    loader = remote(copies, FakeLoader(resources=NEEDS))
    assert loader.estimate_resources() == ResourceAllocation()
    with pytest.raises(Unavailable, match="down"):
        loader.load(ID)
    assert loader.estimate_resources() == ResourceAllocation.ram(1200)


def test_a_version_that_is_gone_fails_at_its_estimate_and_its_load():
    copies = Copies()
    copies.failures = [NotFound("gone"), NotFound("gone")]
    loader = remote(copies, FakeLoader())
    with pytest.raises(Gone):
        loader.estimate_resources()
    with pytest.raises(Gone):
        loader.load(ID)


def test_the_estimate_is_made_once_and_anew_after_a_load_that_failed():
    copies = Copies()
    loader = remote(copies, FakeLoader(resources=NEEDS))
    assert loader.estimate_resources() == ResourceAllocation.ram(1200)
    copies.stored_bytes = 2000
    assert loader.estimate_resources() == ResourceAllocation.ram(1200)
    copies.failures = [Unavailable("half of it was there")]
    with pytest.raises(Unavailable):
        loader.load(ID)
    assert loader.estimate_resources() == ResourceAllocation.ram(2400)


def test_the_copy_is_fetched_then_loaded_and_held_until_the_unload():
    copies = Copies()
    held_at: list[int] = []
    inner = FakeLoader(
        resources=NEEDS,
        before_load=lambda: held_at.append(copies.held),
        before_unload=lambda: held_at.append(copies.held),
    )
    loader = remote(copies, inner)
    loader.load(ID)
    assert copies.fetched == ["s3://b/m/1"]
    assert loader.servable is inner.servable is not None
    assert loader.estimate_resources() == NEEDS
    loader.unload()
    assert loader.servable is None
    assert held_at == [1, 1]
    assert copies.held == 0


def test_a_fetch_that_fails_loads_nothing_and_can_be_tried_again():
    copies = Copies()
    copies.failures = [Unavailable("cut")]
    inner = FakeLoader()
    loader = remote(copies, inner)
    with pytest.raises(Unavailable, match="cut"):
        loader.load(ID)
    assert inner.attempts == 0
    loader.load(ID)
    assert loader.servable is not None


def test_a_load_that_fails_lets_go_of_the_copy_and_can_be_tried_again():
    copies = Copies()
    loader = remote(copies, FakeLoader(failures=[Unavailable("no")]))
    with pytest.raises(Unavailable, match="no"):
        loader.load(ID)
    assert copies.held == 0
    loader.load(ID)
    assert copies.held == 1


def test_an_unload_that_fails_lets_go_of_the_copy():
    copies = Copies()

    def fail() -> None:
        raise RuntimeError("engine")

    loader = remote(copies, FakeLoader(before_unload=fail))
    loader.load(ID)
    with pytest.raises(RuntimeError):
        loader.unload()
    assert copies.held == 0


def test_cancelling_a_load_reaches_the_load_of_the_copy_and_nothing_else():
    told: list[str] = []

    class Told(FakeLoader):
        def cancel_load(self) -> None:
            told.append("cancelled")

    inner = Told(before_load=lambda: loader.cancel_load())  # noqa: PLW0108  # made below
    loader = remote(Copies(), inner)
    loader.cancel_load()
    loader.load(ID)
    loader.cancel_load()
    assert told == ["cancelled"]


def test_before_the_load_every_instance_is_estimated_at_the_stored_size():
    loader = RemoteLoader("s3://b/m/1", Copies(), lambda _: FakeLoader(), num_instances=3)
    assert loader.estimate_resources() == ResourceAllocation.ram(3600)
