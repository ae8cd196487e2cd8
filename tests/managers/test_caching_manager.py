"""Versions are loaded when first asked for, and the least recently used make room for others."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from serving.core.errors import Internal, InvalidArgument, NotFound, ResourceExhausted, ServingError
from serving.core.event_bus import EventBus
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ServableState
from serving.managers.caching_manager import CachingManager
from serving.managers.work_threads import ExecutorFactory, WorkThreads
from serving.testing import FakeClock, FakeLoader, inline

ram = ResourceAllocation.ram


class Cache:
    """A caching manager with what it announced, and shorthands to offer and ask."""

    def __init__(self, limit: int | None = None, make_executor: ExecutorFactory = inline) -> None:
        self.events: list[str] = []
        bus: EventBus[ServableState] = EventBus()
        bus.subscribe(
            lambda event: self.events.append(
                f"{event.id.name}{event.id.version} {event.state.name}"
            )
        )
        self.manager = CachingManager(
            bus=bus,
            clock=FakeClock(),
            limit=None if limit is None else ram(limit),
            make_executor=make_executor,
        )

    def offer(self, name: str, loaders: Mapping[int, FakeLoader | InvalidArgument]) -> None:
        versions = [ServableData(ServableId(name, number), loaders[number]) for number in loaders]
        self.manager.aspired_versions(name, versions)

    def lease(self, name: str, version: int | None = None) -> ServableHandle:
        outcomes: SimpleQueue[ServableHandle | ServingError] = SimpleQueue()
        self.manager.lend(ServableRequest(name, version), None, outcomes.put)
        outcome = outcomes.get(timeout=20)
        if isinstance(outcome, ServingError):
            raise outcome
        return outcome

    def ask(self, name: str, version: int | None = None) -> int:
        with self.lease(name, version) as handle:
            return handle.id.version

    @property
    def loaded(self) -> list[str]:
        return [f"{held.name}{held.version}" for held in self.manager.available()]


def sized(size: int) -> FakeLoader:
    return FakeLoader(resources=ram(size))


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    cache = Cache()
    loader = FakeLoader()
    cache.offer("m", {1: loader})
    assert (loader.attempts, cache.events) == (0, ["m1 START"])
    assert cache.ask("m") == 1
    assert cache.ask("m") == 1
    assert loader.attempts == 1


def test_without_a_version_the_highest_one_offered_is_loaded() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(), 3: FakeLoader()})
    assert cache.ask("m") == 3
    assert cache.ask("m", 1) == 1
    assert cache.loaded == ["m1", "m3"]


def test_what_nobody_offers_is_not_found() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader()})
    for name, version in (("m", 2), ("n", None)):
        with pytest.raises(NotFound, match="Servable not found for request"):
            cache.ask(name, version)


def test_many_who_ask_at_once_share_one_load() -> None:
    cache = Cache(make_executor=WorkThreads)
    go_on = threading.Event()
    loader = FakeLoader(before_load=lambda: go_on.wait(10))
    cache.offer("m", {1: loader})
    answers: list[int] = []
    asking = [
        threading.Thread(target=lambda: answers.append(cache.ask("m")), daemon=True)
        for _ in range(8)
    ]
    for thread in asking:
        thread.start()
    go_on.set()
    for thread in asking:
        thread.join(10)
    assert answers == [1] * 8
    assert loader.attempts == 1
    cache.manager.stop()


def test_a_failed_load_is_the_answer_and_the_next_look_up_tries_again() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(failures=[InvalidArgument("broken")])})
    with pytest.raises(InvalidArgument, match="broken"):
        cache.ask("m")
    assert cache.events[-1] == "m1 END"
    assert cache.ask("m") == 1


def test_a_version_that_arrived_with_an_error_answers_with_it() -> None:
    cache = Cache()
    cache.offer("m", {1: InvalidArgument("unreadable")})
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="unreadable"):
            cache.ask("m")


def test_the_least_recently_used_makes_room() -> None:
    cache = Cache(limit=100)
    for name in ("a", "b", "c"):
        cache.offer(name, {1: sized(40)})
    cache.ask("a")
    cache.ask("b")
    cache.ask("a")
    cache.ask("c")
    assert cache.loaded == ["a1", "c1"]


def test_what_was_unloaded_to_make_room_is_loaded_again_when_asked_for() -> None:
    cache = Cache(limit=50)
    loaders = {"a": sized(40), "b": sized(40)}
    for name, loader in loaders.items():
        cache.offer(name, {1: loader})
    for name in ("a", "b", "a"):
        cache.ask(name)
    assert cache.loaded == ["a1"]
    assert (loaders["a"].attempts, loaders["a"].unloads) == (2, 1)


def test_what_can_never_fit_is_refused_and_disturbs_nobody() -> None:
    cache = Cache(limit=100)
    cache.offer("small", {1: sized(40)})
    cache.offer("huge", {1: sized(101)})
    cache.ask("small")
    with pytest.raises(ResourceExhausted, match="Insufficient resources to load servable"):
        cache.ask("huge")
    assert cache.loaded == ["small1"]


def test_room_is_made_only_once_nobody_holds_what_leaves() -> None:
    cache = Cache(limit=50, make_executor=WorkThreads)
    leaving = sized(40)
    cache.offer("a", {1: leaving})
    cache.offer("b", {1: sized(40)})
    with cache.lease("a"):
        asking = threading.Thread(target=cache.ask, args=("b",), daemon=True)
        asking.start()
        asking.join(0.05)
        assert asking.is_alive()
        assert leaving.unloads == 0
    asking.join(10)
    assert cache.loaded == ["b1"]
    cache.manager.stop()


def test_a_loaded_version_that_is_offered_no_longer_is_unloaded() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(), 2: FakeLoader()})
    cache.ask("m", 1)
    cache.ask("m", 2)
    cache.offer("m", {2: FakeLoader()})
    assert cache.loaded == ["m2"]
    with pytest.raises(NotFound):
        cache.ask("m", 1)


def test_offering_the_same_again_changes_nothing() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader()})
    cache.ask("m")
    events = list(cache.events)
    cache.offer("m", {1: FakeLoader()})
    assert cache.events == events
    assert cache.loaded == ["m1"]


def test_a_loader_that_can_not_estimate_answers_with_its_load_s_error() -> None:
    class Broken(FakeLoader):
        def estimate_resources(self) -> ResourceAllocation:
            raise OSError("/secret")

    cache = Cache(limit=100)
    cache.offer("m", {1: Broken()})
    with pytest.raises(Exception, match="failed: OSError"):
        cache.ask("m")


def test_look_ups_and_evictions_race_without_a_wrong_answer_or_a_hang() -> None:
    cache = Cache(limit=100, make_executor=WorkThreads)
    names = [f"n{number}_" for number in range(6)]
    for name in names:
        cache.offer(name, {1: sized(40)})
    wrong: list[object] = []

    def ask_all() -> None:
        for name in names * 10:
            try:
                with cache.lease(name) as handle:
                    if handle.id != ServableId(name, 1):
                        wrong.append(handle.id)
            except ResourceExhausted:
                pass  # everything that could leave was held at that moment
            except Exception as error:  # noqa: BLE001  # the test shows it
                wrong.append(error)

    asking = [threading.Thread(target=ask_all, daemon=True) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
        assert not thread.is_alive()
    assert wrong == []
    cache.manager.stop()
    assert cache.loaded == []


def test_nothing_is_available_before_the_first_request_and_then_what_was_asked_for() -> None:
    cache = Cache()
    for name in ("a", "b"):
        cache.offer(name, {1: FakeLoader(), 2: FakeLoader()})
    assert cache.loaded == []
    cache.ask("b", 1)
    cache.ask("a")
    assert cache.loaded == ["a2", "b1"]


def test_a_load_on_request_is_announced_like_any_other() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader()})
    cache.ask("m")
    assert [event.split()[1] for event in cache.events][-2:] == ["LOADING", "AVAILABLE"]


def test_what_failed_to_load_is_not_available() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(failures=[InvalidArgument("broken")])})
    with pytest.raises(InvalidArgument):
        cache.ask("m")
    assert cache.loaded == []


def test_those_who_ask_for_different_versions_at_once_load_each_once() -> None:
    cache = Cache(make_executor=WorkThreads)
    loaders = {version: FakeLoader() for version in range(1, 5)}
    cache.offer("m", loaders)
    with ThreadPoolExecutor(8) as asking:
        answers = list(asking.map(lambda version: cache.ask("m", version), [1, 2, 3, 4] * 2))
    assert answers == [1, 2, 3, 4] * 2
    assert [loader.attempts for loader in loaders.values()] == [1] * 4
    cache.manager.stop()


@pytest.mark.parametrize("make_executor", [inline, WorkThreads], ids=["inline", "threads"])
def test_all_loaded_versions_that_are_offered_no_longer_are_unloaded(
    make_executor: ExecutorFactory,
) -> None:
    cache = Cache(make_executor=make_executor)
    loaders = {version: FakeLoader() for version in range(1, 9)}
    cache.offer("m", loaders)
    for version in loaders:
        cache.ask("m", version)
    cache.offer("m", {})
    cache.manager.stop()
    assert cache.loaded == []
    assert [loader.unloads for loader in loaders.values()] == [1] * 8


def test_a_version_that_is_offered_again_after_its_unload_is_loaded_again() -> None:
    cache = Cache()
    for _ in range(2):
        cache.offer("m", {1: FakeLoader(), 2: FakeLoader()})
        assert (cache.ask("m", 1), cache.ask("m", 2)) == (1, 2)
        cache.offer("m", {})
    assert cache.loaded == []


def test_a_load_that_hangs_holds_up_only_those_who_ask_for_it() -> None:
    cache = Cache(make_executor=WorkThreads)
    cache.manager.set_num_load_threads(2)
    begun, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait(10)

    cache.offer("hanging", {1: FakeLoader(before_load=hang)})
    cache.offer("m", {1: FakeLoader()})
    asking = threading.Thread(target=cache.ask, args=("hanging",), daemon=True)
    asking.start()
    assert begun.wait(10)
    assert cache.ask("m") == 1
    go_on.set()
    asking.join(10)
    assert cache.loaded == ["hanging1", "m1"]
    cache.manager.stop()


def test_a_load_that_would_end_its_thread_is_an_answer_like_any_failure() -> None:
    cache = Cache(make_executor=WorkThreads)
    cache.offer("m", {1: FakeLoader(failures=[SystemExit(1)])})
    with pytest.raises(Internal, match="failed: SystemExit"):
        cache.ask("m")
    assert cache.ask("m") == 1
    cache.manager.stop()
