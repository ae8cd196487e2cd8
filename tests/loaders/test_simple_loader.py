"""The loader that any platform can use: load, wrap, unload."""

from functools import partial
from pathlib import Path

import pytest

from serving.core.cancellation import Cancellation
from serving.core.errors import Gone, InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.instances import InstanceOptions
from serving.loaders.simple_loader import SimpleLoader
from serving.testing import FakeServable

M1 = ServableId("m", 1)


class OnePlatform:
    """Loads one servable, and counts how often it was asked for an estimate."""

    def __init__(self) -> None:
        self.servable = FakeServable()
        self.estimates = 0

    def estimate(self, path: str) -> ResourceAllocation:
        self.estimates += 1
        return ResourceAllocation.ram(len(path))

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        return self.servable


def test_what_is_served_is_what_the_wrapper_returned() -> None:
    platform, wrapped = OnePlatform(), FakeServable()
    asked: list[tuple[ServableId, str, Servable]] = []

    def wrap(servable_id: ServableId, path: str, servable: Servable) -> Servable:
        asked.append((servable_id, path, servable))
        return wrapped

    loader = SimpleLoader("/m/1", lambda: platform, wrap)
    assert loader.servable is None
    loader.load(M1)
    assert loader.servable is wrapped
    assert asked == [(M1, "/m/1", platform.servable)]
    loader.unload()
    assert loader.servable is None
    assert wrapped.closed


def test_a_failing_wrapper_leaves_nothing_loaded() -> None:
    platform = OnePlatform()

    def refuse(servable_id: ServableId, path: str, servable: Servable) -> Servable:
        raise InvalidArgument("can not be batched")

    loader = SimpleLoader("/m/1", lambda: platform, refuse)
    with pytest.raises(InvalidArgument):
        loader.load(M1)
    assert platform.servable.closed
    assert loader.servable is None


def test_the_estimate_is_made_anew_after_a_load_that_failed() -> None:
    platform = OnePlatform()

    def refuse(servable_id: ServableId, path: str, servable: Servable) -> Servable:
        raise InvalidArgument("half of it is missing")

    loader = SimpleLoader("/m/1", lambda: platform, refuse)
    loader.estimate_resources()
    with pytest.raises(InvalidArgument):
        loader.load(M1)
    loader.estimate_resources()
    assert platform.estimates == 2


@pytest.mark.parametrize("error", [InvalidArgument("no table"), OSError("no such directory")])
def test_whatever_a_platform_says_of_a_path_that_is_gone_the_version_is_gone(
    tmp_path: Path, error: Exception
) -> None:
    class Failing(OnePlatform):
        def estimate(self, path: str) -> ResourceAllocation:
            raise error

        def load(
            self, servable_id: ServableId, path: str, device: Device | None = None
        ) -> Servable:
            raise error

    def loader(path: Path) -> SimpleLoader:
        return SimpleLoader(str(path), Failing, lambda servable_id, path, servable: servable)

    for call in (
        loader(tmp_path / "1").estimate_resources,
        partial(loader(tmp_path / "1").load, M1),
    ):
        with pytest.raises(Gone):
            call()
    with pytest.raises(type(error)):
        loader(tmp_path).load(M1)


def test_the_estimate_is_made_once_and_making_a_loader_asks_for_no_platform() -> None:
    platform = OnePlatform()
    asked: list[OnePlatform] = []

    def get() -> OnePlatform:
        asked.append(platform)
        return platform

    loader = SimpleLoader("/m/1", get, lambda servable_id, path, servable: servable)
    assert asked == []
    assert loader.estimate_resources() == loader.estimate_resources() == ResourceAllocation.ram(4)
    loader.load(M1)
    assert loader.estimate_resources() == ResourceAllocation.ram(4)
    assert platform.estimates == 1


def test_warm_up_sees_what_will_serve_before_it_serves() -> None:
    wrapped = FakeServable()
    seen: list[tuple[object, ...]] = []

    def warm_up(
        servable_id: ServableId, path: str, servable: Servable, cancellation: Cancellation
    ) -> None:
        seen.append((servable_id, path, servable, loader.servable))

    loader = SimpleLoader("/m/1", OnePlatform, lambda *_: wrapped, warm_up)
    loader.load(M1)
    assert seen == [(M1, "/m/1", wrapped, None)]
    assert loader.servable is wrapped


def test_a_failing_warm_up_leaves_nothing_loaded() -> None:
    wrapped = FakeServable()

    def refuse(*_: object) -> None:
        raise InvalidArgument("a request fails")

    loader = SimpleLoader("/m/1", OnePlatform, lambda *_: wrapped, refuse)
    with pytest.raises(InvalidArgument):
        loader.load(M1)
    assert wrapped.closed
    assert loader.servable is None


def test_cancelling_a_load_tells_its_warm_up_and_no_later_one() -> None:
    told: list[bool] = []

    def warm_up(_id: ServableId, _path: str, _of: Servable, cancellation: Cancellation) -> None:
        if not told:
            loader.cancel_load()
        told.append(cancellation.cancelled)

    loader = SimpleLoader("/m/1", OnePlatform, lambda _id, _path, servable: servable, warm_up)
    loader.load(M1)
    loader.unload()
    loader.load(M1)
    assert told == [True, False]


def test_several_instances_are_counted_loaded_and_closed_together() -> None:
    class Fresh(OnePlatform):
        def __init__(self) -> None:
            super().__init__()
            self.loaded: list[tuple[Device | None, FakeServable]] = []

        def load(
            self, servable_id: ServableId, path: str, device: Device | None = None
        ) -> Servable:
            self.loaded.append((device, FakeServable()))
            return self.loaded[-1][1]

    platform, gpus = Fresh(), (Device("gpu", 0), Device("gpu", 1))
    asked: list[str] = []

    def instances_of(path: str) -> InstanceOptions:
        asked.append(path)
        return InstanceOptions(3, gpus)

    loader = SimpleLoader(
        "/m/1",
        lambda: platform,
        lambda servable_id, path, servable: servable,
        instances_of=instances_of,
    )
    assert loader.estimate_resources() == ResourceAllocation.ram(3 * len("/m/1"))
    loader.load(M1)
    assert loader.estimate_resources() == ResourceAllocation.ram(3 * len("/m/1"))
    assert [device for device, _ in platform.loaded] == [gpus[0], gpus[1], gpus[0]]
    assert set(asked) == {"/m/1"}
    loader.unload()
    assert [servable.closed for _, servable in platform.loaded] == [True] * 3
