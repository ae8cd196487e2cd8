"""Rounds of listings: what hangs is passed, keeps one thread, and is heard when it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from waiting import WAIT_SECONDS

from serving.sources.lister import SECONDS_TO_ANSWER, Lister
from serving.testing import FakeClock


class Store:
    """Base paths that answer at once, but for those that hang until they are let go."""

    def __init__(self, *hanging: str) -> None:
        self.clock = FakeClock()
        self.gates = {path: threading.Event() for path in hanging}
        self.begun: list[str] = []
        self.threads: dict[str, threading.Thread] = {}
        self.answers: list[tuple[str, str, bool]] = []
        self.silences: list[str] = []
        self.lister = Lister(self._list, self._hear, self.silences.append, self.clock)

    def begin(self, *base_paths: str) -> threading.Thread:
        """A round that goes on."""
        round_ = threading.Thread(target=self.lister.list_all, args=(base_paths,), daemon=True)
        round_.start()
        return round_

    def await_listings(self, count: int) -> None:
        """Return once so many have begun in all, and the round waits for the last of them."""
        while len(self.begun) < count:
            time.sleep(0.001)
        self.clock.await_waiters()

    def pass_by(self, *counts: int, round_: threading.Thread) -> None:
        """Each time when so many listings have begun, let those in progress have had their time;
        the round ends with the last.
        """
        for count in counts:
            self.await_listings(count)
            assert round_.is_alive()
            self.clock.advance(SECONDS_TO_ANSWER)
        round_.join(WAIT_SECONDS)
        assert not round_.is_alive()

    def answer(self, base_path: str) -> None:
        """Let one go, and return when its thread has ended."""
        self.gates[base_path].set()
        self.threads[base_path].join(WAIT_SECONDS)

    def close(self) -> None:
        for gate in self.gates.values():
            gate.set()

    def _list(self, base_path: str) -> str:
        self.begun.append(base_path)
        self.threads[base_path] = threading.current_thread()
        if base_path in self.gates:
            assert self.gates[base_path].wait(WAIT_SECONDS)
        return base_path.upper()

    def _hear(self, base_path: str, listing: str, is_late: bool) -> None:
        self.answers.append((base_path, listing, is_late))


@pytest.fixture
def hanging() -> Iterator[Store]:
    store = Store("b", "c")
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
    store = Store("a")
    round_ = store.begin("a", "b")
    store.await_listings(1)
    store.clock.advance(SECONDS_TO_ANSWER * 0.9)
    assert store.silences == []
    assert store.answers == []
    store.clock.advance(SECONDS_TO_ANSWER * 0.2)
    round_.join(WAIT_SECONDS)
    assert store.silences == ["a"]
    assert store.answers == [("b", "B", False)]
    store.close()


def test_the_others_are_listed_without_those_that_hang(hanging: Store) -> None:
    hanging.pass_by(2, 3, round_=hanging.begin("a", "b", "c", "d"))
    assert hanging.answers == [("a", "A", False), ("d", "D", False)]
    assert hanging.silences == ["b", "c"]


def test_what_hangs_is_not_listed_again_before_it_has_answered(hanging: Store) -> None:
    hanging.pass_by(2, round_=hanging.begin("a", "b"))
    for _ in range(2):
        hanging.lister.list_all(["a", "b"])
    assert hanging.begun.count("b") == 1
    assert hanging.begun.count("a") == 3
    assert hanging.silences == ["b"] * 3


def test_a_late_answer_is_heard_as_one_and_the_base_path_listed_again(hanging: Store) -> None:
    hanging.pass_by(1, round_=hanging.begin("b"))
    hanging.answer("b")
    assert hanging.answers == [("b", "B", True)]
    hanging.lister.list_all(["b"])
    assert hanging.answers[1:] == [("b", "B", False)]
    assert hanging.silences == ["b"]


def test_what_is_heard_of_late_at_this_moment_is_listed_again_after_it() -> None:
    """Else a round that begins just then would end without a word of it."""
    listed, answer, begun, take = (threading.Event() for _ in range(4))
    answers: list[bool] = []
    clock = FakeClock()

    def make_listing(base_path: str) -> str:
        listed.set()
        answer.wait(WAIT_SECONDS)
        return base_path

    def take_late(base_path: str, listing: str, is_late: bool) -> None:
        if is_late:
            begun.set()
            take.wait(WAIT_SECONDS)
        answers.append(is_late)

    listing = Lister(make_listing, take_late, lambda _path: None, clock)
    rounds = [threading.Thread(target=listing.list_all, args=(["a"],)) for _ in range(2)]
    rounds[0].start()
    assert listed.wait(WAIT_SECONDS)
    clock.await_waiters()
    clock.advance(SECONDS_TO_ANSWER)
    rounds[0].join(WAIT_SECONDS)
    answer.set()
    assert begun.wait(WAIT_SECONDS)
    rounds[1].start()
    rounds[1].join(0.05)
    take.set()
    rounds[1].join(WAIT_SECONDS)
    assert answers == [True, False]


def test_many_that_hang_are_passed_by_twice_as_many_each_time_and_keep_a_thread_each() -> None:
    paths = [str(number) for number in range(30)]
    store = Store(*paths)
    for counts in ((1, 2, 4, 8, 16, 31), ()):
        store.pass_by(*counts, round_=store.begin(*paths, "last"))
        assert store.answers.pop() == ("last", "LAST", False)
        assert sum(thread.is_alive() for thread in store.threads.values()) == len(paths)
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
