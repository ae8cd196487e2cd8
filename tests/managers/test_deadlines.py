"""Who waits without a thread is called back when the time has come."""

import threading

from waiting import WAIT_SECONDS

from serving.managers.deadlines import Deadlines
from serving.testing import FakeClock


def test_what_has_passed_is_called_in_order_and_once() -> None:
    clock = FakeClock(1000.0)
    deadlines = Deadlines(clock)
    passed: list[int] = []
    for at in (1003, 1001, 1002, 1009):
        deadlines.add(at, lambda at=at: passed.append(at))
    deadlines.tick()
    assert passed == []
    clock.advance(3)
    deadlines.tick()
    deadlines.tick()
    assert passed == [1001, 1002, 1003]


def test_what_is_cancelled_is_not_called() -> None:
    deadlines = Deadlines(FakeClock(1000.0))
    called: list[str] = []
    deadlines.add(1000.0, lambda: called.append("cancelled")).cancel()
    deadlines.add(1000.0, lambda: called.append("kept"))
    deadlines.tick()
    assert called == ["kept"]


def test_what_is_cancelled_is_forgotten_before_its_time() -> None:
    clock = FakeClock(1000.0)
    deadlines = Deadlines(clock)
    passed: list[float] = []
    kept = [deadlines.add(1060.0 - number, lambda: passed.append(0)) for number in range(50)]
    for _ in range(10_000):
        deadlines.add(1030.0, lambda: passed.append(1)).cancel()
    assert len(deadlines._pending) <= 2 * len(kept) + 64
    clock.advance(60)
    deadlines.tick()
    assert passed == [0] * len(kept)


def test_the_thread_sleeps_until_the_next_deadline_even_if_that_is_added_later() -> None:
    clock = FakeClock(1000.0)
    deadlines = Deadlines(clock)
    late, early = threading.Event(), threading.Event()
    deadlines.start()
    deadlines.add(1060.0, late.set)
    deadlines.add(1005.0, early.set)
    clock.await_waiters()
    clock.advance(5)
    assert early.wait(WAIT_SECONDS)
    assert not late.is_set()
    deadlines.stop()
