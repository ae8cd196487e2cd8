"""A batched servable with threads: ends, and models that hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from batched_servable import Batched, Feeds, Recorder, Result, error, values

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.clock import SystemClock
from serving.core.errors import (
    Unavailable,
)
from serving.core.servable import (
    RunOptions,
    Servable,
    run_and_wait,
)
from serving.testing import FakeServable


def test_closing_answers_what_is_enqueued_then_closes_the_servable():
    open_when_run: list[bool] = []

    def note(feeds: Feeds) -> Feeds:
        open_when_run.append(not servable.closed)
        return {"y:0": feeds["x:0"], "z:0": feeds["x:0"]}

    servable = Recorder(note)
    batched = Batched(servable, max_batch_size=2, batch_timeout_micros=10**9)
    batched.scheduler.start()
    tasks = [batched.send([float(n)]) for n in range(3)]
    lazy = batched.send([7.0], ("z:0",))
    batched.servable.close()
    assert servable.closed
    assert open_when_run == [True] * 3
    assert [values(task) for task in (*tasks, lazy)] == [[[0.0]], [[1.0]], [[2.0]], [[7.0]]]
    assert error(batched.send([1.0]))[0] is Unavailable
    batched.scheduler.stop()


def test_a_servable_that_answers_on_another_thread_holds_the_batch_thread():
    """Else more batches would run at once than there are batch threads."""
    answer: list[Callable[[], None]] = []
    running = threading.Event()

    class Elsewhere(FakeServable):
        def run(self, *arguments: object) -> None:
            answer.append(lambda: FakeServable.run(self, *arguments))  # type: ignore[arg-type]  # those of run
            running.set()

    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    options = BatchingOptions(QueueOptions(max_batch_size=1))
    batched = BatchingServable(Elsewhere(), Elsewhere(), scheduler, options, clock)
    results: list[Result] = []
    for _ in range(2):
        batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), results.append)
    for _ in range(2):
        assert running.wait(30)
        running.clear()
        assert len(answer) == 1
        answer.pop()()
    batched.close()
    scheduler.stop()
    assert [values([result]) for result in results] == [[[2.0]]] * 2


class Hanging(FakeServable):
    """Answers nothing before :meth:`go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs, self._gate = threading.Event(), threading.Event()

    def run(self, *arguments: Any) -> None:
        self.hangs.set()
        assert self._gate.wait(30)
        super().run(*arguments)

    def go_on(self) -> None:
        self._gate.set()


def test_a_model_that_hangs_keeps_other_models_from_nothing():
    """It holds a batch thread, and its own queue alone fills up behind it."""
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(2), clock)
    scheduler.start()

    def batched(servable: Servable, **queue: int) -> BatchingServable:
        options = BatchingOptions(QueueOptions(**queue))
        return BatchingServable(servable, servable, scheduler, options, clock)

    hanging = Hanging()
    stuck = batched(hanging, max_enqueued_batches=1, max_batch_size=2, batch_timeout_micros=10**9)
    other, leaving = batched(FakeServable()), batched(FakeServable())
    feeds = {"x:0": np.zeros(2)}
    running: list[Result] = []
    queued: list[Result] = []
    refused: list[Result] = []
    stuck.run(feeds, ["y:0"], RunOptions(), running.append)
    assert hanging.hangs.wait(30)
    stuck.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), queued.append)
    stuck.run(feeds, ["y:0"], RunOptions(), refused.append)
    assert error(refused)[0] is Unavailable
    for _ in range(20):
        (y,) = run_and_wait(other, feeds, ["y:0"])
        assert y.tolist() == [2.0, 2.0]
    leaving.close()
    assert running == queued == []
    hanging.go_on()
    stuck.close()
    assert (values(running), values(queued)) == ([[2.0, 2.0]], [[2.0]])
    other.close()
    scheduler.stop()


def test_limits_may_be_as_large_as_numbers_are():
    """A timeout of 300,000 years is one that never comes; the end of the queue does."""
    clock, huge = SystemClock(), 2**63 - 1
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    options = BatchingOptions(QueueOptions(huge, huge, huge))
    batched = BatchingServable(FakeServable(), FakeServable(), scheduler, options, clock)
    results: list[Result] = []
    batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), results.append)
    batched.close()
    assert values(results) == [[2.0]]
    scheduler.stop()


@pytest.mark.parametrize("adaptive", [False, True])
def test_stopping_answers_what_waits_behind_a_model_that_hangs(adaptive: bool):
    """The thread that stops is not to hang with it."""
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    hanging = Hanging()
    options = BatchingOptions(QueueOptions(max_batch_size=1), adaptive=adaptive)
    stuck = BatchingServable(hanging, hanging, scheduler, options, clock)
    running: list[Result] = []
    queued: list[list[Result]] = [[], []]
    stuck.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(caller_may_wait=False), running.append)
    assert hanging.hangs.wait(30)
    for results in queued:
        stuck.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(caller_may_wait=False), results.append)
    scheduler.stop(grace_seconds=0.01)
    stopped = (Unavailable, "The server stopped before the request was run")
    assert [error(results) for results in queued] == [stopped, stopped]
    assert running == []
    hanging.go_on()
    stuck.close()
    assert values(running) == [[2.0]]


def test_what_is_queued_is_run_within_the_grace():
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    slow = Hanging()
    options = BatchingOptions(QueueOptions(max_batch_size=1))
    batched = BatchingServable(slow, slow, scheduler, options, clock)
    results: list[list[Result]] = [[], [], []]
    for each in results:
        batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), each.append)
    assert slow.hangs.wait(30)
    stopping = threading.Thread(target=scheduler.stop, args=(60,))
    stopping.start()
    slow.go_on()
    stopping.join(60)
    assert not stopping.is_alive()
    assert [values(each) for each in results] == [[[2.0]]] * 3
    batched.close()
