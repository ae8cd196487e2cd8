"""So much work at a time; what hangs or waits for its delay holds up nobody else."""

import logging
import threading
from collections.abc import Iterator

import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import FailedPrecondition
from serving.core.servable_id import ServableId
from serving.managers import work_threads
from serving.managers.work_threads import SECONDS_UNTIL_OVERDUE, WorkThreads
from serving.testing import FakeClock

A, B, C = (ServableId(name, 1) for name in "abc")


class Step:
    """Work that tells when it has begun, and goes on only when it is let."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.go_on.wait(WAIT_SECONDS)

    def await_begun(self) -> None:
        assert self.begun.wait(WAIT_SECONDS)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loads(clock: FakeClock) -> Iterator[WorkThreads]:
    threads = WorkThreads(1, "load", clock)
    yield threads
    threads.close()


def test_zero_threads_mean_one_after_another(clock: FakeClock) -> None:
    order: list[int] = []
    threads = WorkThreads(0, "load", clock)
    for number in range(20):
        threads.submit(ServableId("m", number), lambda number=number: order.append(number))
    threads.close()
    assert order == list(range(20))


def test_no_more_goes_on_at_a_time_than_there_are_threads(loads: WorkThreads) -> None:
    loads.set_num_threads(2)
    steps = [Step() for _ in range(3)]
    for servable_id, step in zip((A, B, C), steps, strict=True):
        loads.submit(servable_id, step)
    for step in steps[:2]:
        step.await_begun()
    assert not steps[2].begun.is_set()
    steps[0].go_on.set()
    steps[2].await_begun()
    for step in steps:
        step.go_on.set()


def test_more_threads_take_up_what_waits(loads: WorkThreads) -> None:
    first, second = Step(), Step()
    loads.submit(A, first)
    first.await_begun()
    loads.submit(B, second)
    loads.set_num_threads(2)
    second.await_begun()
    for step in (first, second):
        step.go_on.set()


def test_work_that_hangs_keeps_its_thread_but_not_the_turn_of_others(
    loads: WorkThreads, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    hanging, second, third = Step(), Step(), Step()
    loads.submit(A, hanging)
    hanging.await_begun()
    for servable_id, step in ((B, second), (C, third)):
        loads.submit(servable_id, step)
    clock.advance(SECONDS_UNTIL_OVERDUE - 1)
    clock.await_waiters(within_seconds=1)
    assert not second.begun.is_set()
    with caplog.at_level(logging.WARNING):
        clock.advance(1)
        second.await_begun()
    assert caplog.messages == [
        "load of servable {name: a version: 1} goes on for more than 30 seconds; "
        "others no longer wait for it"
    ]
    assert not third.begun.is_set()
    second.go_on.set()
    third.await_begun()
    assert len(caplog.messages) == 1
    for step in (hanging, third):
        step.go_on.set()


def test_what_waits_for_its_delay_to_pass_holds_no_thread(
    loads: WorkThreads, clock: FakeClock
) -> None:
    later, now = Step(), Step()
    loads.submit(A, later, 60)
    loads.submit(B, now)
    now.await_begun()
    now.go_on.set()
    clock.await_waiters(within_seconds=60)
    assert not later.begun.is_set()
    clock.advance(60)
    later.await_begun()
    later.go_on.set()


def test_what_has_not_begun_can_be_withdrawn(loads: WorkThreads) -> None:
    first, second, third = Step(), Step(), Step()
    loads.submit(A, first)
    first.await_begun()
    loads.submit(B, second)
    loads.submit(C, third, 60)
    assert loads.withdraw(C) is third
    assert loads.withdraw(B) is second
    assert loads.withdraw(A) is None
    first.go_on.set()
    loads.close()
    assert not second.begun.is_set()


def test_work_that_raises_is_logged_and_the_next_is_done(
    loads: WorkThreads, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("defect")

    next_one = Step()
    next_one.go_on.set()
    loads.submit(A, fail)
    loads.submit(B, next_one)
    next_one.await_begun()
    assert caplog.messages == ["load of servable {name: a version: 1} failed"]


def test_where_no_thread_can_be_had_the_work_waits_for_one(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scarce(threading.Thread):
        refusals = 1

        def start(self) -> None:
            if self.name == f"load {A}" and Scarce.refusals:
                Scarce.refusals -= 1
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(work_threads.threading, "Thread", Scarce)
    threads, step = WorkThreads(1, "load", clock), Step()
    step.go_on.set()
    threads.submit(A, step)
    clock.await_waiters(within_seconds=1)
    assert not step.begun.is_set()
    clock.advance(1)
    threads.close()
    assert step.begun.is_set()


def test_once_closed_no_work_is_taken(clock: FakeClock) -> None:
    threads = WorkThreads(1, "load", clock)
    threads.close()
    with pytest.raises(FailedPrecondition, match="no more load is begun"):
        threads.submit(A, lambda: None)


def test_no_thread_keeps_the_process_from_ending(loads: WorkThreads) -> None:
    step = Step()
    before = set(threading.enumerate())
    loads.submit(A, step)
    step.await_begun()
    started = set(threading.enumerate()) - before
    assert {thread.name for thread in started} == {"load-dispatcher", f"load {A}"}
    assert all(thread.daemon for thread in started)
    step.go_on.set()
