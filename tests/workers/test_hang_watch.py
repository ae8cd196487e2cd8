"""A worker that does not answer is noticed; here it is the other end of a channel."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from channel_ends import WAIT_SECONDS, ChannelEnd, await_

from serving.core.clock import SystemClock
from serving.testing import FakeClock
from serving.workers.channel import Channel
from serving.workers.hang_watch import LOOKS, HangWatch, WatchedWorker
from serving.workers.messages import Ping


class Patient:
    """A worker that is watched, and what was done to it."""

    def __init__(self) -> None:
        self.end = ChannelEnd()
        self.is_serving = True
        self.kills = 0
        channel = Channel(self.end.other, "a worker")
        channel.start(lambda _message, _answer: None, lambda: None)
        self.watched = WatchedWorker(channel, lambda: self.is_serving, self._kill)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.watched.look()

    def answer(self) -> None:
        """Returns when the supervisor has the answer to what it asked last."""
        await_(lambda: bool(self.end.unanswered))
        _, answer = self.end.unanswered.pop()
        answer(None)
        await_(self.watched._question.done)

    def _kill(self) -> None:
        self.kills += 1


@pytest.fixture
def patient() -> Patient:
    return Patient()


def test_a_worker_that_has_not_answered_after_so_many_looks_is_killed_once(
    patient: Patient,
) -> None:
    patient.look()
    patient.look(LOOKS - 1)
    assert (patient.kills, patient.watched.is_hung) == (0, False)
    patient.look()
    assert (patient.kills, patient.watched.is_hung) == (1, True)
    patient.look(2 * LOOKS)
    assert patient.kills == 1
    patient.end.await_heard(Ping())
    assert patient.end.heard == [Ping()]


def test_a_worker_that_answers_in_time_is_asked_again_and_given_as_long(patient: Patient) -> None:
    for _ in range(3):
        patient.look(LOOKS)
        patient.answer()
    assert patient.kills == 0
    assert patient.end.heard == [Ping()] * 3


def test_a_worker_that_starts_or_drains_is_left_alone(patient: Patient) -> None:
    patient.is_serving = False
    patient.look(2 * LOOKS)
    patient.is_serving = True
    patient.look(LOOKS)
    patient.is_serving = False
    patient.look()
    patient.is_serving = True
    patient.look(LOOKS)
    assert patient.kills == 0


def test_a_worker_that_has_ended_is_not_hung(patient: Patient) -> None:
    patient.look()
    patient.end.end()
    await_(patient.watched._question.done)
    patient.look(2 * LOOKS)
    assert not patient.watched.is_hung


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watch(clock: FakeClock) -> Iterator[HangWatch]:
    watch = HangWatch(50.0, clock)
    watch.start()
    yield watch
    watch.stop()


def test_the_looks_are_spread_over_the_time_that_a_worker_has(
    watch: HangWatch, clock: FakeClock
) -> None:
    clock.await_waiters()  # the first look has seen nobody
    end, killed = ChannelEnd(), threading.Event()
    with watch.watching(Channel(end.other, "a worker"), lambda: True, killed.set) as worker:
        for _ in range(LOOKS + 1):
            assert not killed.is_set()
            clock.await_waiters(within_seconds=10.0)
            clock.advance(10.0)
        assert killed.wait(WAIT_SECONDS)
        assert worker.is_hung


def test_no_time_at_all_watches_nobody() -> None:
    watch = HangWatch(0.0, SystemClock())
    watch.start()
    assert "hang-watch" not in [thread.name for thread in threading.enumerate()]
    watch.stop()
