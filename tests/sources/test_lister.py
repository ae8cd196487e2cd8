"""Rounds of listings: what hangs is passed, keeps one thread, and is heard when it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from serving.core.clock import SystemClock
from serving.sources import lister
from serving.sources.lister import SECONDS_TO_ANSWER, Lister
from serving.testing import FakeClock


class Store:
    """Base paths that answer at once, but for those that hang until they are let go."""

    def __init__(self, *hanging: str, clock: FakeClock | None = None) -> None:
        self.gates = {path: threading.Event() for path in hanging}
        self.begun: list[str] = []
        self.threads: dict[str, threading.Thread] = {}
        self.answers: list[tuple[str, str, bool]] = []
        self.silences: list[str] = []
        self.lister = Lister(self._list, self._hear, self.silences.append, clock or FakeClock())

    def answer(self, base_path: str) -> None:
        """Let one go, and return when its thread has ended."""
        self.gates[base_path].set()
        self.threads[base_path].join(10)

    def close(self) -> None:
        for gate in self.gates.values():
            gate.set()

    def _list(self, base_path: str) -> str:
        self.begun.append(base_path)
        self.threads[base_path] = threading.current_thread()
        if base_path in self.gates:
            assert self.gates[base_path].wait(30)
        return base_path.upper()

    def _hear(self, base_path: str, listing: str, is_late: bool) -> None:
        self.answers.append((base_path, listing, is_late))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer within a fifth of a real second is silent."""
    monkeypatch.setattr(lister, "SECONDS_TO_ANSWER", 0.2)


@pytest.fixture
def hanging(quick: None) -> Iterator[Store]:
    store = Store("b", "c", clock=SystemClock())
    yield store
    store.close()


def test_while_all_answer_one_thread_lists_them_in_order() -> None:
    store = Store()
    store.lister.list_all(["b", "a", "c"])
    assert store.answers == [("b", "B", False), ("a", "A", False), ("c", "C", False)]
    assert len(set(store.threads.values())) == 1
    assert store.silences == []


def test_a_round_over_nothing_ends_at_once() -> None:
    Store().lister.list_all([])


def test_a_base_path_is_silent_after_its_time_and_not_before() -> None:
    clock = FakeClock()
    store = Store("a", clock=clock)
    round_ = threading.Thread(target=store.lister.list_all, args=(["a", "b"],))
    round_.start()
    clock.await_waiters()
    clock.advance(SECONDS_TO_ANSWER * 0.9)
    assert store.silences == []
    assert store.answers == []
    clock.advance(SECONDS_TO_ANSWER * 0.2)
    round_.join(10)
    assert store.silences == ["a"]
    assert store.answers == [("b", "B", False)]
    store.close()


def test_the_others_are_listed_without_those_that_hang(hanging: Store) -> None:
    hanging.lister.list_all(["a", "b", "c", "d"])
    assert hanging.answers == [("a", "A", False), ("d", "D", False)]
    assert hanging.silences == ["b", "c"]


def test_what_hangs_is_not_listed_again_before_it_has_answered(hanging: Store) -> None:
    for _ in range(3):
        hanging.lister.list_all(["a", "b"])
    assert hanging.begun.count("b") == 1
    assert hanging.begun.count("a") == 3
    assert hanging.silences == ["b"] * 3


def test_a_late_answer_is_heard_as_one_and_the_base_path_listed_again(hanging: Store) -> None:
    hanging.lister.list_all(["b"])
    hanging.answer("b")
    assert hanging.answers == [("b", "B", True)]
    hanging.lister.list_all(["b"])
    assert hanging.answers[1:] == [("b", "B", False)]
    assert hanging.silences == ["b"]


@pytest.mark.usefixtures("quick")
def test_what_is_heard_of_late_at_this_moment_is_listed_again_after_it() -> None:
    """Else a round that begins just then would end without a word of it."""
    answer, begun, take = threading.Event(), threading.Event(), threading.Event()
    answers: list[bool] = []

    def make_listing(base_path: str) -> str:
        answer.wait(30)
        return base_path

    def take_late(base_path: str, listing: str, is_late: bool) -> None:
        if is_late:
            begun.set()
            take.wait(30)
        answers.append(is_late)

    listing = Lister(make_listing, take_late, lambda _path: None, SystemClock())
    listing.list_all(["a"])
    answer.set()
    assert begun.wait(10)
    round_ = threading.Thread(target=listing.list_all, args=(["a"],), daemon=True)
    round_.start()
    round_.join(0.05)
    take.set()
    round_.join(10)
    assert answers == [True, False]


@pytest.mark.usefixtures("quick")
def test_many_that_hang_are_passed_by_twice_as_many_each_time_and_keep_a_thread_each() -> None:
    paths = [str(number) for number in range(30)]
    store = Store(*paths, clock=SystemClock())
    started = time.monotonic()
    for _ in range(2):
        store.lister.list_all([*paths, "last"])
        assert store.answers.pop() == ("last", "LAST", False)
        assert sum(thread.is_alive() for thread in store.threads.values()) == len(paths)
    assert time.monotonic() - started < len(paths) * lister.SECONDS_TO_ANSWER / 2
    assert len(store.begun) == len(paths) + 2
    store.close()


def test_an_answer_that_nobody_can_take_is_logged_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[str] = []

    def take(base_path: str, listing: str, is_late: bool) -> None:
        if base_path == "a":
            raise RuntimeError
        heard.append(base_path)

    store = Lister(str.upper, take, heard.append, FakeClock())
    for _ in range(2):
        store.list_all(["a", "b"])
    assert heard == ["b", "b"]
    assert caplog.text.count("what base path a holds was not taken") == 2
