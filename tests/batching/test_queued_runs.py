"""A servable that can do so many runs at once gets no more; the others wait on no thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.batching.queued_runs import MOST_WAITING, QueuedRuns
from serving.core.call_observer import CallObserver
from serving.core.cancellation import Cancellation
from serving.core.errors import Cancelled, Unavailable
from serving.core.observed_call import CURRENT_CALL, Arrival, Protocols, working_for
from serving.core.servable import RunOptions
from serving.testing import FakeClock, FakeServable

FEEDS = {"x:0": np.float32([2])}


class HeldServable(FakeServable):
    """Its runs end when the test ends them."""

    def __init__(self) -> None:
        super().__init__()
        self.running: deque[Callable] = deque()
        self.options: list[RunOptions] = []

    def run(self, feeds, fetches, options, done) -> None:
        self.options.append(options)
        self.running.append(lambda: done([feeds["x:0"]]))


def outcomes_of(servable: QueuedRuns, count: int, options: RunOptions | None = None) -> list:
    """Begins so many runs, numbered from 0, and collects what they come to."""
    outcomes: list = []
    for number in range(count):
        feeds = {"x:0": np.float32([number])}
        servable.run(feeds, ["y:0"], options or RunOptions(), outcomes.append)
    return outcomes


def test_no_more_runs_at_once_than_the_servable_can_do():
    held = HeldServable()
    outcomes = outcomes_of(QueuedRuns(held, 2), 5)
    assert len(held.running) == 2
    held.running.popleft()()
    assert len(held.running) == 2
    while held.running:
        held.running.popleft()()
    assert [outcome[0].tolist() for outcome in outcomes] == [[0], [1], [2], [3], [4]]


def test_a_call_that_is_given_up_while_it_waits_is_not_run():
    held = HeldServable()
    queued = QueuedRuns(held, 1)
    first = outcomes_of(queued, 1)
    cancellation = Cancellation()
    given_up = outcomes_of(queued, 2, RunOptions(cancellation=cancellation))
    last = outcomes_of(queued, 1)
    cancellation.cancel()
    assert [type(outcome) for outcome in given_up] == [Cancelled, Cancelled]
    assert len(queued._waiting) == 1  # what is not run is not kept
    held.running.popleft()()
    assert len(first) == 1
    assert len(held.running) == 1
    held.running.popleft()()
    assert len(last) == 1


def test_only_so_many_wait():
    """Each keeps its inputs in memory."""
    held = HeldServable()
    queued = QueuedRuns(held, 1)
    kept = outcomes_of(queued, 1 + MOST_WAITING)
    (refusal,) = outcomes_of(queued, 1)
    assert kept == []
    assert isinstance(refusal, Unavailable)
    assert refusal.message == "4096 requests wait for this model already"
    held.running.popleft()()
    assert outcomes_of(queued, 1) == []


def test_a_run_that_waited_works_for_its_own_call():
    """Not for the one that ends just then, on whose thread it begins."""
    working: list = []

    class Telling(HeldServable):
        def run(self, feeds, fetches, options, done) -> None:
            working.append(CURRENT_CALL.get())
            super().run(feeds, fetches, options, done)

    telling = Telling()
    queued = QueuedRuns(telling, 1)
    observer = CallObserver([], FakeClock(), returns_request_ids=True)
    first, second = (observer.begin(Arrival(Protocols.GRPC, "p.S/M", ""), ()) for _ in range(2))
    with working_for(first):
        for call in (first, second, None):
            outcomes_of(queued, 1, RunOptions(call=call))
        while telling.running:
            telling.running.popleft()()
        assert CURRENT_CALL.get() is first
    assert working == [first, second, None]


def test_a_run_that_waited_begins_on_a_thread_that_may_not_wait():
    held = HeldServable()
    outcomes_of(QueuedRuns(held, 1), 2, RunOptions(caller_may_wait=True))
    held.running.popleft()()
    assert [options.caller_may_wait for options in held.options] == [True, False]


def test_an_answer_that_fails_does_not_keep_the_place_of_its_run():
    queued = QueuedRuns(FakeServable(), 1)

    def fail(_outcome: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        queued.run(FEEDS, ["y:0"], RunOptions(), fail)
    (outcome,) = outcomes_of(queued, 1)
    assert outcome[0].tolist() == [2]


def test_thousands_that_wait_end_one_after_the_other_and_not_inside_each_other():
    """Runs that are over at once, on the thread that begins them, need no deeper stack."""
    release: list[Callable] = []

    class FirstHeld(FakeServable):
        def run(self, feeds, fetches, options, done) -> None:
            if release:
                super().run(feeds, fetches, options, done)
            else:
                release.append(lambda: FakeServable.run(self, feeds, fetches, options, done))

    outcomes = outcomes_of(QueuedRuns(FirstHeld(), 1), 4000)
    assert outcomes == []
    release[0]()
    assert [outcome[0].tolist() for outcome in outcomes] == [
        [number / 2 + 2] for number in range(4000)
    ]


@pytest.mark.usefixtures("threads_that_take_turns_often")
def test_threads_that_race_lose_no_run_and_no_place():
    at_once = most = 0
    lock = threading.Lock()

    def compute(feeds):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        result = {"y:0": feeds["x:0"]}
        with lock:
            at_once -= 1
        return result

    queued = QueuedRuns(FakeServable(compute), 3)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: outcomes_of(queued, 50), range(16)))
        threads.shutdown()
    assert sum(map(len, found)) == 800
    assert 1 <= most <= 3
    assert queued._free == 3


def test_it_shows_and_closes_what_it_wraps():
    servable = FakeServable()
    queued = QueuedRuns(servable, 1)
    assert queued.signatures is servable.signatures
    queued.close()
    assert servable.closed
    assert repr(queued).startswith("<QueuedRuns of <")
