"""Runs one by one: quick ones on the caller's thread, others elsewhere."""

from concurrent.futures import Executor, Future

import numpy as np
import pytest

from serving.batching.direct_servable import DirectServable
from serving.batching.queued_runs import MOST_WAITING
from serving.core.cancellation import Cancellation
from serving.core.errors import Cancelled, Unavailable
from serving.core.servable import RunOptions
from serving.testing import FakeClock, FakeServable

FEEDS = {"x:0": np.float32([1])}
QUICK = 0.0005
SLOW = 0.05


class Elsewhere(Executor):
    """Keeps what is handed over until the test runs it."""

    def __init__(self):
        self.work = []

    def submit(self, fn, /, *args, **kwargs):
        self.work.append(lambda: fn(*args, **kwargs))
        return Future()

    def run_all(self):
        work, self.work = self.work, []
        for one in work:
            one()
        return len(work)


class Taking(FakeServable):
    """Takes the time that the test says."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.seconds = QUICK

    def run(self, feeds, fetches, options, done):
        self.clock.advance(self.seconds)
        super().run(feeds, fetches, options, done)


class Direct:
    def __init__(self, *, may_run_long=False):
        clock = FakeClock()
        self.inner = Taking(clock)
        self.inner.may_run_long = may_run_long
        self.threads = Elsewhere()
        self.servable = DirectServable(self.inner, self.threads, clock)

    def run(self, *fetches, seconds=QUICK, caller_may_wait=True):
        """Run once; whether it was handed over."""
        self.inner.seconds = seconds
        results = []
        options = RunOptions(caller_may_wait=caller_may_wait)
        self.servable.run(FEEDS, fetches, options, results.append)
        handed_over = not results
        assert self.threads.run_all() == handed_over
        assert len(results) == 1
        return handed_over


@pytest.fixture
def direct():
    return Direct()


def test_the_first_runs_are_handed_over_and_quick_ones_move_to_the_caller(direct):
    assert [direct.run("y:0") for _ in range(18)] == [True] * 16 + [False] * 2


def test_slow_runs_stay_handed_over(direct):
    assert all(direct.run("y:0", seconds=SLOW) for _ in range(40))


def test_slow_runs_move_the_next_ones_off_the_caller(direct):
    for _ in range(16):
        direct.run("y:0")
    assert not any(direct.run("y:0", seconds=SLOW) for _ in range(4))
    assert direct.run("y:0")


def test_each_combination_of_outputs_has_a_pace_of_its_own(direct):
    for _ in range(16):
        direct.run("y:0")
    assert direct.run("y:0", "z:0")
    assert not direct.run("y:0")


def test_of_endless_combinations_the_last_ones_are_handed_over_and_not_remembered(direct):
    for number in range(300):
        direct.run(f"y:{number}")
    for _ in range(20):
        assert direct.run("y:299")
    assert len(direct.servable._paces) == 256


def test_signatures_and_close_are_those_of_the_wrapped_servable(direct):
    assert direct.servable.signatures is direct.inner.signatures
    direct.servable.close()
    assert direct.inner.closed


@pytest.mark.parametrize("may_run_long", [False, True])
def test_what_may_run_long_is_handed_over_by_a_caller_that_can_not_wait(may_run_long):
    """However quick it was: the thread may be one that carries every request."""
    direct = Direct(may_run_long=may_run_long)
    for _ in range(16):
        direct.run("y:0")
    assert direct.run("y:0", caller_may_wait=False) == may_run_long
    assert not direct.run("y:0")


def test_only_so_many_wait_for_a_thread(direct):
    """Each keeps its inputs in memory, and behind a model that hangs they would have no end."""
    answers = []
    for _ in range(MOST_WAITING):
        direct.servable.run(FEEDS, ["y:0"], RunOptions(), answers.append)
    assert answers == []
    direct.servable.run(FEEDS, ["y:0"], RunOptions(), answers.append)
    (refusal,) = answers
    assert isinstance(refusal, Unavailable)
    assert refusal.message == "4096 requests wait for this model already"
    direct.threads.run_all()
    assert len(answers) == 1 + MOST_WAITING
    assert direct.run("z:0")


def test_a_call_that_is_given_up_while_it_waits_for_a_thread_is_not_run(direct):
    cancellation, answers = Cancellation(), []
    direct.inner.run = None
    direct.servable.run(FEEDS, ["y:0"], RunOptions(cancellation=cancellation), answers.append)
    cancellation.cancel()
    direct.threads.run_all()
    (answer,) = answers
    assert isinstance(answer, Cancelled)
