"""What batching does beyond TensorFlow Serving's, for its queues and a model's instances."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from clocked_batches import Batched, error

from serving.batching.batch_queue import Entry, TaskQueue
from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.servable import RunCallback, RunOptions
from serving.loaders.instances import InstancesServable
from serving.testing import FakeClock, FakeServable


def find_that_larger_batches_pay(queue: TaskQueue[str], at_once: int) -> None:
    """A second for so many batches of any size, which begin and end together."""
    for ticket in range(600):
        queue.add(Entry(ticket, "a", 1), 0.0)
    now = 0.0
    while not queue.is_empty:
        batches = []
        while queue.ready_at <= now and len(batches) < at_once:
            batches.append(queue.take(now))
        now = max(now + 1.0, queue.ready_at if not batches else now)
        for batch in batches:
            queue.processed(batch, now)


def test_queues_that_take_the_place_of_others_know_of_all_instances_too():
    clock = FakeClock()
    servable = InstancesServable([FakeServable(), FakeServable(), FakeServable()])
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    batched = BatchingServable(servable, servable, scheduler, BatchingOptions(), clock)
    batched.reconfigure(BatchingOptions(adaptive=True))
    (lane,) = scheduler._lanes.values()
    find_that_larger_batches_pay(lane.queue, at_once=3)
    assert lane.queue.most_at_once == 3


class Bounded(FakeServable):
    max_runs = 2


def test_a_batch_runs_at_a_time_for_each_run_that_a_model_does_at_once():
    servable, clock = Bounded(), FakeClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    BatchingServable(servable, servable, scheduler, BatchingOptions(adaptive=True), clock)
    (lane,) = scheduler._lanes.values()
    find_that_larger_batches_pay(lane.queue, at_once=2)
    assert lane.queue.most_at_once == 2


class TestReconfiguring:
    def test_new_requests_follow_the_new_options_and_those_before_the_old(self):
        batched = Batched(BatchingOptions(QueueOptions(max_batch_size=2)))
        for row in (1.0, 2.0, 3.0):
            batched.send(row)
        batched.servable.reconfigure(BatchingOptions(QueueOptions(max_batch_size=4)))
        for row in (4.0, 5.0, 6.0):
            batched.send(row)
        assert sorted(batched.step()) == [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]

    def test_what_waits_for_more_waits_no_longer(self):
        batched = Batched(BatchingOptions(QueueOptions(batch_timeout_micros=10**9)))
        batched.send(1.0)
        batched.servable.reconfigure(BatchingOptions())
        assert batched.step() == [[1.0]]

    def test_closing_answers_what_waits_in_former_queues_too(self):
        batched = Batched(BatchingOptions(QueueOptions(batch_timeout_micros=10**9)))
        before = batched.send(1.0)
        batched.servable.reconfigure(BatchingOptions(adaptive=True))
        after = batched.send(2.0)
        closing = threading.Thread(target=batched.servable.close)
        closing.start()
        while closing.is_alive():
            batched.step()
        assert len(before) == len(after) == 1

    def test_batching_can_become_adaptive_and_fixed_again(self):
        batched = Batched(BatchingOptions())
        batched.model.seconds = 1.0
        for adaptive, batches in ((True, [[1.0], [2.0, 3.0]]), (False, [[1.0, 2.0, 3.0]])):
            batched.servable.reconfigure(BatchingOptions(adaptive=adaptive))
            for row in (1.0, 2.0, 3.0):
                batched.send(row)
            assert batched.step() == batches

    def test_what_waits_is_padded_as_was_said_before(self):
        batched = Batched(BatchingOptions(allowed_batch_sizes=(4, 1000)))
        batched.send(1.0)
        batched.servable.reconfigure(BatchingOptions())
        assert batched.step() == [[1.0] * 4]

    def test_one_that_is_closed_has_no_more_queues(self):
        batched = Batched(BatchingOptions())
        batched.servable.close()
        batched.servable.reconfigure(BatchingOptions(adaptive=True))
        assert not batched.scheduler._lanes


class TestWaitingForMoreWhereWaitsAreBounded:
    """Refusing what comes first would refuse what would have filled the batch."""

    def test_a_batch_closes_early_enough_for_its_first_deadline(self):
        queue = QueueOptions(max_batch_size=4, batch_timeout_micros=3_000_000)
        batched = Batched(BatchingOptions(queue, admission=Admission()))
        batched.model.seconds = 1.0
        batched.send(0.0, 0.0, 0.0, 0.0)
        batched.step()
        results = batched.send(1.0, deadline=batched.in_seconds(2))
        batched.clock.advance(0.9)
        assert batched.step() == [[1.0]]
        assert error(results) is list

    @pytest.mark.parametrize("deadline", [1.2, 1.4])
    def test_what_adaptive_batches_wait_makes_nobody_late(self, deadline: float):
        batched = Batched(BatchingOptions(adaptive=True, admission=Admission()))
        batched.model.seconds = 1.0
        for _ in range(7):
            batched.send(0.0)
        batched.step()
        while batched.servable.waiting_rows():
            batched.clock.advance(0.1)
            batched.step()
        asked = batched.in_seconds(deadline)
        results = batched.send(1.0, deadline=asked)
        assert batched.step() == []  # it waits for those that may come
        while not results:
            batched.clock.advance(0.01)
            batched.step()
        assert error(results) is list
        assert batched.clock.monotonic() <= asked

    def test_it_is_bounded_as_every_wait(self):
        queue = QueueOptions(max_batch_size=4, batch_timeout_micros=3_000_000)
        batched = Batched(BatchingOptions(queue, admission=Admission(500_000)))
        batched.send(1.0)
        batched.clock.advance(0.4)
        assert batched.step() == []
        batched.clock.advance(0.1)
        assert batched.step() == [[1.0]]


class OneAtATime(FakeServable):
    """Looks, in each of its runs, whether there is a batch to run for another thread."""

    max_runs = 1

    def __init__(self) -> None:
        super().__init__()
        self.others: list[bool] = []

    def run(
        self,
        feeds: dict[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        self.others.append(self.scheduler.run_once())
        super().run(feeds, fetches, options, done)


@pytest.mark.parametrize("reconfigured", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
def test_no_thread_waits_with_a_batch_for_a_model_that_runs_no_more_at_once(
    adaptive: bool, reconfigured: bool
):
    model, clock = OneAtATime(), FakeClock()
    model.scheduler = SharedBatchScheduler(SchedulerOptions(4), clock)
    options = BatchingOptions(QueueOptions(max_batch_size=1), adaptive=adaptive)
    before = BatchingOptions() if reconfigured else options
    batched = BatchingServable(model, model, model.scheduler, before, clock)
    batched.reconfigure(options)
    for _ in range(3):
        batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), lambda _: None)
    while model.scheduler.run_once():
        pass
    assert model.others == [False] * 3
