"""Versions are loaded when first asked for, and the least recently used make room for others."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import (
    DeadlineExceeded,
    Gone,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving.core.event_bus import EventBus
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ServableState
from serving.managers.caching_manager import CachingManager
from serving.managers.work_threads import ExecutorFactory, WorkThreads
from serving.testing import FakeClock, FakeLoader, InlineWork, inline

ram = ResourceAllocation.ram

Outcomes = SimpleQueue[ServableHandle | ServingError]


class Cache:
    """A caching manager with what it announced, and shorthands to offer and ask."""

    def __init__(self, limit: int | None = None, make_executor: ExecutorFactory = inline) -> None:
        self.clock = FakeClock()
        self.events: list[str] = []
        bus: EventBus[ServableState] = EventBus()
        bus.subscribe(
            lambda event: self.events.append(
                f"{event.id.name}{event.id.version} {event.state.name}"
            )
        )
        self.manager = CachingManager(
            bus=bus,
            clock=self.clock,
            limit=None if limit is None else ram(limit),
            num_load_threads=4,
            make_executor=make_executor,
        )

    def offer(self, name: str, loaders: Mapping[int, FakeLoader | InvalidArgument]) -> None:
        versions = [ServableData(ServableId(name, number), loaders[number]) for number in loaders]
        self.manager.aspired_versions(name, versions)

    def begin(
        self, name: str, version: int | None = None, deadline: float | None = None
    ) -> Outcomes:
        """Ask, and return before there is an answer."""
        outcomes: Outcomes = SimpleQueue()
        self.manager.lend(ServableRequest(name, version), deadline, outcomes.put)
        return outcomes

    def lease(self, name: str, version: int | None = None) -> ServableHandle:
        outcome = self.begin(name, version).get(timeout=WAIT_SECONDS)
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


class Gate:
    """A load that has begun, and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.go_on.wait(WAIT_SECONDS)


def hanging(gate: Gate, size: int = 0) -> FakeLoader:
    return FakeLoader(resources=ram(size), before_load=gate)


@contextmanager
def threaded(limit: int | None = None) -> Iterator[Cache]:
    """With pools of threads, as in a server; at the end nothing is loaded nor remembered."""
    cache = Cache(limit, WorkThreads)
    cache.manager.start()
    try:
        yield cache
    finally:
        cache.manager.stop()
    assert cache.loaded == []


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
    loader = FakeLoader(before_load=lambda: go_on.wait(WAIT_SECONDS))
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
        thread.join(WAIT_SECONDS)
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
    asking.join(WAIT_SECONDS)
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
    """Nor does it hold the thread of those: ``begin`` comes back."""
    gate = Gate()
    with threaded() as cache:
        cache.offer("hanging", {1: hanging(gate)})
        cache.offer("m", {1: FakeLoader()})
        waiting = [cache.begin("hanging") for _ in range(100)]
        assert gate.begun.wait(WAIT_SECONDS)
        assert cache.ask("m") == 1
        assert all(outcomes.empty() for outcomes in waiting)
        gate.go_on.set()
        for outcomes in waiting:
            outcomes.get(timeout=WAIT_SECONDS).release()


def test_a_load_that_would_end_its_thread_is_an_answer_like_any_failure() -> None:
    cache = Cache(make_executor=WorkThreads)
    cache.offer("m", {1: FakeLoader(failures=[SystemExit(1)])})
    with pytest.raises(Internal, match="failed: SystemExit"):
        cache.ask("m")
    assert cache.ask("m") == 1
    cache.manager.stop()


def test_a_call_whose_deadline_passes_is_told_which_model_and_the_load_goes_on() -> None:
    gate = Gate()
    loader = hanging(gate)
    with threaded() as cache:
        cache.offer("m", {1: loader})
        patient, hasty = cache.begin("m"), cache.begin("m", deadline=1005.0)
        cache.clock.await_waiters()
        cache.clock.advance(5)
        error = hasty.get(timeout=WAIT_SECONDS)
        assert isinstance(error, DeadlineExceeded)
        assert error.message == (
            "The deadline passed before servable {name: m version: 1} was loaded"
        )
        assert patient.empty()
        gate.go_on.set()
        patient.get(timeout=WAIT_SECONDS).release()
        assert cache.ask("m") == 1
        assert loader.attempts == 1
        assert hasty.empty()


def test_a_call_that_was_answered_in_time_hears_nothing_of_its_deadline() -> None:
    with threaded() as cache:
        cache.offer("m", {1: FakeLoader()})
        outcomes = cache.begin("m", deadline=1005.0)
        outcomes.get(timeout=WAIT_SECONDS).release()
        cache.clock.advance(5)
        cache.manager._deadlines.tick()
        assert outcomes.empty()


def test_one_who_waited_and_runs_for_long_holds_up_no_other() -> None:
    gate = Gate()
    with threaded() as cache:
        cache.offer("m", {1: FakeLoader()})
        cache.offer("n", {1: FakeLoader()})

        def run(handle: ServableHandle) -> None:
            gate()
            handle.release()

        cache.manager.lend(ServableRequest("m"), None, run)
        assert gate.begun.wait(WAIT_SECONDS)
        assert cache.ask("n") == 1
        gate.go_on.set()


def test_what_fits_is_never_refused_because_another_is_loading() -> None:
    gate = Gate()
    with threaded(limit=100) as cache:
        cache.offer("a", {1: hanging(gate, 60)})
        cache.offer("b", {1: sized(60)})
        first, second = cache.begin("a"), cache.begin("b")
        assert gate.begun.wait(WAIT_SECONDS)
        assert second.empty()
        gate.go_on.set()
        first.get(timeout=WAIT_SECONDS).release()
        second.get(timeout=WAIT_SECONDS).release()
        assert cache.loaded == ["b1"]


def test_what_nobody_holds_makes_room_before_what_is_held() -> None:
    with threaded(limit=100) as cache:
        for name in ("held", "idle", "new"):
            cache.offer(name, {1: sized(40)})
        with cache.lease("held"):
            cache.ask("idle")
            cache.ask("new")
            assert cache.loaded == ["held1", "new1"]


def test_who_waits_for_a_lease_to_end_holds_up_nobody_who_fits() -> None:
    with threaded(limit=100) as cache:
        cache.offer("held", {1: sized(60)})
        cache.offer("large", {1: sized(80)})
        cache.offer("small", {1: sized(20)})
        with cache.lease("held"):
            large = cache.begin("large")
            assert cache.ask("small") == 1
            assert large.empty()
        large.get(timeout=WAIT_SECONDS).release()
        assert cache.loaded == ["large1", "small1"]


def test_who_waits_for_a_version_that_is_replaced_gets_the_one_in_its_place() -> None:
    gate = Gate()
    with threaded() as cache:
        cache.offer("m", {1: hanging(gate)})
        latest, first = cache.begin("m"), cache.begin("m", 1)
        assert gate.begun.wait(WAIT_SECONDS)
        cache.offer("m", {2: FakeLoader()})
        with latest.get(timeout=WAIT_SECONDS) as handle:
            assert handle.id.version == 2
        error = first.get(timeout=WAIT_SECONDS)
        assert isinstance(error, NotFound)
        assert error.message == "Servable not found for request: Specific(m, 1)"
        gate.go_on.set()


def test_the_latest_is_always_found_while_versions_replace_each_other() -> None:
    with threaded() as cache:
        cache.offer("m", {0: FakeLoader()})
        replaced = threading.Event()

        def replace() -> None:
            for version in range(1, 200):
                cache.offer("m", {version: FakeLoader()})
            replaced.set()

        thread = threading.Thread(target=replace, daemon=True)
        thread.start()
        answers = [cache.ask("m")]
        while not replaced.is_set():
            answers.append(cache.ask("m"))
        thread.join(WAIT_SECONDS)
        assert answers == sorted(answers)
        assert cache.ask("m") == 199


def test_a_version_is_announced_as_known_once_and_ended_when_it_is_offered_no_longer() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(), 2: FakeLoader()})
    cache.ask("m", 2)
    cache.offer("m", {2: FakeLoader()})
    cache.offer("m", {})
    steps = ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    assert [event for event in cache.events if event.startswith("m2")] == [
        f"m2 {step}" for step in steps
    ]
    assert [event for event in cache.events if event.startswith("m1")] == ["m1 START", "m1 END"]


def test_an_unload_to_make_room_is_an_end_and_a_new_start() -> None:
    cache = Cache(limit=50)
    for name in ("a", "b"):
        cache.offer(name, {1: sized(40)})
    cache.ask("a")
    cache.ask("b")
    life = ["START", "LOADING", "AVAILABLE", "UNLOADING", "END", "START"]
    assert [event for event in cache.events if event.startswith("a")] == [
        f"a1 {step}" for step in life
    ]
    cache.offer("a", {})
    assert cache.events[-1] == "a1 END"


def test_a_failed_version_stays_ended_until_it_is_tried_again() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(failures=[InvalidArgument("broken")])})
    with pytest.raises(InvalidArgument):
        cache.ask("m")
    cache.offer("m", {1: FakeLoader()})
    assert cache.events == ["m1 START", "m1 LOADING", "m1 END"]
    cache.ask("m")
    assert cache.events[3:] == ["m1 START", "m1 LOADING", "m1 AVAILABLE"]


def test_a_version_offered_again_while_its_cancelled_load_goes_on_begins_anew_after_it() -> None:
    gate = Gate()
    with threaded() as cache:
        cache.offer("m", {1: hanging(gate)})
        cancelled = cache.begin("m")
        assert gate.begun.wait(WAIT_SECONDS)
        cache.offer("m", {})
        assert isinstance(cancelled.get(timeout=WAIT_SECONDS), NotFound)
        cache.offer("m", {1: FakeLoader()})
        again = cache.begin("m")
        gate.go_on.set()
        again.get(timeout=WAIT_SECONDS).release()
        life = ["START", "LOADING", "END", "START", "LOADING", "AVAILABLE"]
        assert cache.events == [f"m1 {step}" for step in life]


def test_a_version_that_arrived_with_an_error_begins_once_it_arrives_without() -> None:
    cache = Cache()
    cache.offer("m", {1: InvalidArgument("unreadable")})
    cache.offer("m", {1: InvalidArgument("unreadable")})
    cache.offer("m", {1: FakeLoader()})
    assert cache.events == ["m1 END", "m1 START"]
    assert cache.ask("m") == 1


def test_a_version_that_turns_into_an_error_while_it_waits_for_room_is_the_answer() -> None:
    with threaded(limit=100) as cache:
        cache.offer("held", {1: sized(60)})
        cache.offer("m", {1: sized(80)})
        with cache.lease("held"):
            waiting = cache.begin("m")
            cache.offer("m", {1: InvalidArgument("unreadable")})
            assert str(waiting.get(timeout=WAIT_SECONDS)) == "INVALID_ARGUMENT: unreadable"
            assert cache.events[-1] == "m1 END"
            cache.offer("m", {1: sized(80)})
            assert cache.events[-1] == "m1 START"
            again = cache.begin("m")
        again.get(timeout=WAIT_SECONDS).release()


def test_estimates_that_hang_keep_nobody_from_being_told() -> None:
    gate = Gate()

    class Silent(FakeLoader):
        def estimate_resources(self) -> ResourceAllocation:
            gate()
            return super().estimate_resources()

    with threaded(limit=100) as cache:
        cache.offer("away", {version: Silent() for version in range(20)})
        for version in range(20):
            cache.begin("away", version)
        assert gate.begun.wait(WAIT_SECONDS)
        cache.offer("m", {1: sized(10)})
        assert cache.ask("m") == 1
        gate.go_on.set()


def test_a_version_that_turns_into_an_error_while_it_is_estimated_is_the_answer() -> None:
    gate = Gate()

    class Slow(FakeLoader):
        def estimate_resources(self) -> ResourceAllocation:
            gate()
            return ram(40)

    with threaded(limit=100) as cache:
        cache.offer("m", {1: Slow()})
        waiting = cache.begin("m")
        assert gate.begun.wait(WAIT_SECONDS)
        cache.offer("m", {1: InvalidArgument("unreadable")})
        assert str(waiting.get(timeout=WAIT_SECONDS)) == "INVALID_ARGUMENT: unreadable"
        gate.go_on.set()
        cache.offer("m", {1: sized(40)})
        assert cache.ask("m") == 1


def test_a_load_that_can_not_begin_is_an_answer_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with threaded(limit=100) as cache:
        load = cache.manager._basic.load

        def refuse_bad(servable_id: ServableId, *arguments: Any) -> None:
            if servable_id.name == "bad":
                raise RuntimeError("defect")
            load(servable_id, *arguments)

        for name, size in (("held", 60), ("bad", 50), ("good", 50)):
            cache.offer(name, {1: sized(size)})
        with cache.lease("held"):
            monkeypatch.setattr(cache.manager._basic, "load", refuse_bad)
            bad, good = cache.begin("bad"), cache.begin("good")
        assert str(bad.get(timeout=WAIT_SECONDS)) == (
            "INTERNAL: loading servable {name: bad version: 1} failed: RuntimeError"
        )
        good.get(timeout=WAIT_SECONDS).release()
        assert "bad1 END" in cache.events
        monkeypatch.undo()
        assert cache.ask("bad") == 1


def test_where_no_thread_can_be_had_who_asks_hears_of_it() -> None:
    class Refusing(InlineWork):
        def submit(
            self, servable_id: ServableId, work: Callable[[], None], delay_seconds: float = 0
        ) -> None:
            if servable_id.name == "bad":
                raise RuntimeError("can't start new thread")
            work()

    cache = Cache(limit=100, make_executor=lambda *_: Refusing())
    for name in ("bad", "good"):
        cache.offer(name, {1: sized(40)})
    with pytest.raises(Internal, match="failed: RuntimeError"):
        cache.ask("bad")
    assert cache.ask("good") == 1
    assert cache.events[:4] == ["bad1 START", "good1 START", "bad1 END", "good1 LOADING"]


class Growing(FakeLoader):
    """Needs so much when it is asked, and so much when it is asked again; the last for ever."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.estimates = [ram(size) for size in sizes]

    def estimate_resources(self) -> ResourceAllocation:
        return self.estimates.pop(0) if len(self.estimates) > 1 else self.estimates[0]


def test_what_turns_out_to_need_more_gets_more_room() -> None:
    cache = Cache(limit=100)
    cache.offer("other", {1: sized(60)})
    cache.offer("m", {1: Growing(10, 80)})
    cache.ask("other")
    assert cache.ask("m") == 1
    assert cache.loaded == ["m1"]


def test_what_turns_out_to_need_more_waits_for_no_load_that_hangs() -> None:
    gate = Gate()
    with threaded(limit=100) as cache:
        cache.offer("hanging", {1: hanging(gate, 10)})
        cache.offer("other", {1: sized(60)})
        cache.offer("m", {1: Growing(10, 80)})
        cache.ask("other")
        waiting = cache.begin("hanging")
        assert gate.begun.wait(WAIT_SECONDS)
        assert cache.ask("m") == 1
        assert cache.loaded == ["m1"]
        gate.go_on.set()
        waiting.get(timeout=WAIT_SECONDS).release()


def test_what_needs_more_whenever_it_is_asked_is_refused_in_the_end() -> None:
    cache = Cache(limit=100)
    cache.offer("m", {1: Growing(*[10, 80] * 100)})
    cache.offer("held", {1: sized(60)})
    with cache.lease("held"), pytest.raises(ResourceExhausted, match=r"needs .*=80; in use .*=70"):
        cache.ask("m")
    assert cache.events.count("m1 END") == 4


def test_what_grows_beyond_the_limit_is_refused_at_once() -> None:
    cache = Cache(limit=100)
    cache.offer("m", {1: Growing(10, 101)})
    with pytest.raises(ResourceExhausted, match="Insufficient resources to load servable"):
        cache.ask("m")
    assert cache.events.count("m1 END") == 1


def gone() -> FakeLoader:
    return FakeLoader(failures=[Gone("no such directory")])


def test_where_the_latest_is_gone_the_one_below_is_the_latest() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(), 2: gone(), 3: gone()})
    assert cache.ask("m") == 1
    assert cache.loaded == ["m1"]
    assert [event for event in cache.events if event.startswith("m3")][-1] == "m3 END"


def test_who_names_a_version_that_is_gone_is_told_not_found_and_the_next_look_up_tries_again() -> (
    None
):
    cache = Cache()
    cache.offer("m", {1: FakeLoader(), 2: gone()})
    with pytest.raises(NotFound) as raised:
        cache.ask("m", 2)
    assert raised.value.message == "Servable {name: m version: 2} is not there any more"
    assert cache.ask("m", 2) == 2


def test_where_every_version_is_gone_the_latest_is_not_found() -> None:
    cache = Cache()
    cache.offer("m", {1: gone(), 2: gone()})
    with pytest.raises(NotFound, match="version: 1} is not there any more"):
        cache.ask("m")


def test_below_a_version_that_is_broken_nothing_is_looked_for() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(), 2: FakeLoader(failures=[InvalidArgument("broken")])})
    with pytest.raises(InvalidArgument, match="broken"):
        cache.ask("m")


def test_what_is_loaded_is_what_was_offered_last() -> None:
    cache = Cache()
    first, last = FakeLoader(), FakeLoader()
    cache.offer("m", {1: first})
    cache.offer("m", {1: last})
    cache.ask("m")
    assert (first.attempts, last.attempts) == (0, 1)


def test_everything_that_can_be_asked_for_is_known_loaded_or_not() -> None:
    cache = Cache()
    cache.offer("m", {1: FakeLoader(), 2: FakeLoader()})
    cache.offer("n", {1: FakeLoader()})
    cache.ask("m", 1)
    cache.offer("n", {})
    assert cache.manager.offered() == [ServableId("m", 1), ServableId("m", 2)]


def test_nothing_is_remembered_of_versions_that_are_gone() -> None:
    cache = Cache(limit=50)
    for version in range(20):
        cache.offer("m", {version: sized(40), version + 1: sized(40)})
        cache.ask("m")
        cache.ask("m", version)
    cache.offer("m", {})
    manager = cache.manager
    assert (manager._versions, manager._offers, manager._requests, manager._queue) == (
        {},
        {},
        {},
        {},
    )
    assert manager._tracker.used == ResourceAllocation()


def test_a_stop_refuses_who_waits_and_who_comes_later() -> None:
    gate = Gate()
    cache = Cache(make_executor=WorkThreads)
    cache.manager.start()
    cache.offer("m", {1: hanging(gate)})
    waiting = cache.begin("m")
    assert gate.begun.wait(WAIT_SECONDS)
    stopping = threading.Thread(target=cache.manager.stop, daemon=True)
    stopping.start()
    for outcomes in (waiting, cache.begin("m")):
        error = outcomes.get(timeout=WAIT_SECONDS)
        assert isinstance(error, Unavailable)
        assert error.message == "the server is shutting down"
    gate.go_on.set()
    stopping.join(WAIT_SECONDS)
    assert cache.loaded == []
