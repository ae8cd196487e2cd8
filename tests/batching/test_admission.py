"""What is refused for the wait that it would have, and what is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from stepped_scheduler import (
    NEVER,
    Hanging,
    Rows,
    add_queue,
    cut,
    not_split,
    step_all,
    stepped,
    threads,
)
from waiting import await_

from serving.batching.adaptive_queue import AdaptiveQueue
from serving.batching.batch_queue import Ahead, BatchQueue, Entry, TaskQueue
from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.lane import Place
from serving.batching.run_times import RunTimes
from serving.batching.shared_batch_scheduler import SharedBatchScheduler, SharedQueue
from serving.core.errors import InvalidArgument, ResourceExhausted, Unavailable
from serving.testing import FakeClock


class Timed:
    """One queue under the clock: every batch takes ``seconds``."""

    def __init__(self, seconds: float, admission: Admission) -> None:
        self.clock = FakeClock()
        self.scheduler = stepped(self.clock)
        run_times = RunTimes()
        run_times.learn(1, seconds)
        options = QueueOptions(max_batch_size=1, max_enqueued_batches=100)
        self.queue: SharedQueue[str] = self.scheduler.add_queue(
            BatchQueue(options, not_split, run_times),
            lambda _: self.clock.advance(seconds),
            Place(admission=admission),
        )


def test_a_task_whose_deadline_comes_before_its_turn_and_its_run_is_refused():
    timed = Timed(1.0, Admission())
    for _ in range(3):
        timed.queue.enqueue("task", 1, NEVER)
    now = timed.clock.monotonic()
    timed.queue.enqueue("in time", 1, now + 4.1)
    with pytest.raises(ResourceExhausted) as raised:
        timed.queue.enqueue("late", 1, now + 4.9)
    assert raised.value.message == (
        "The request would have to wait for about 4 s; its deadline is in 4.9 s"
    )
    assert raised.value.retry_after_seconds == pytest.approx(4.0)


def test_a_wait_longer_than_the_bound_is_refused_whatever_the_deadline():
    timed = Timed(1.0, Admission(max_wait_micros=1_500_000))
    timed.queue.enqueue("a", 1, NEVER)
    timed.queue.enqueue("b", 1, NEVER)
    with pytest.raises(ResourceExhausted, match=r"wait for about 2 s; the most is 1\.5 s"):
        timed.queue.enqueue("c", 1, NEVER)
    step_all(timed.scheduler)
    timed.queue.enqueue("d", 1, NEVER)


def test_before_anything_was_run_everything_is_admitted():
    scheduler = stepped()
    place = Place(admission=Admission(0))
    queue = add_queue(scheduler, QueueOptions(), lambda _: None, place=place)
    for _ in range(10):
        queue.enqueue("a", 1, NEVER)


def test_one_that_need_not_wait_is_let_in_however_long_its_run_is_thought_to_be():
    timed = Timed(40.0, Admission())
    timed.queue.enqueue("a", 1, timed.clock.monotonic() + 30)


def test_the_wait_for_batches_that_run_one_at_a_time_is_not_shared_by_the_threads():
    clock, run_times = FakeClock(), RunTimes()
    run_times.learn(1, 1.0)
    run_times.learn(2, 1.0)
    scheduler = SharedBatchScheduler(SchedulerOptions(16), clock)
    options = BatchingOptions(QueueOptions(max_batch_size=2), adaptive=True)

    def process(_tasks: Sequence[str]) -> bool:
        run_times.learn(2, 1.0)
        clock.advance(1.0)
        return True

    queue: SharedQueue[str] = scheduler.add_queue(
        AdaptiveQueue(options, not_split, run_times),
        process,
        Place(admission=Admission()),
    )
    for _ in range(6):
        queue.enqueue("a", 1, NEVER)
    while queue.waiting_rows():  # the size is found
        scheduler.run_once()
        clock.advance(1.0)
    for _ in range(6):
        queue.enqueue("b", 1, NEVER)
    with pytest.raises(ResourceExhausted, match="wait for about 3 s"):
        queue.enqueue("c", 1, clock.monotonic() + 3.5)


def joining(
    max_batch_size: int, *, adaptive: bool = False
) -> tuple[FakeClock, SharedBatchScheduler, SharedQueue[str]]:
    """A queue whose batches take a second each, of any size, as is known; none may wait for 1.5."""
    clock, run_times = FakeClock(), RunTimes()
    scheduler = stepped(clock)
    for size in (1, max_batch_size):
        run_times.learn(size, 1.0)
    limits = QueueOptions(max_batch_size=max_batch_size)
    rules: TaskQueue[str] = BatchQueue(limits, not_split, run_times)
    if adaptive:
        rules = AdaptiveQueue(BatchingOptions(limits), not_split, run_times)
        find_that_two_rows_pay(rules)
    place = Place(admission=Admission(500_000))
    queue: SharedQueue[str] = scheduler.add_queue(rules, lambda _: clock.advance(1.0), place)
    return clock, scheduler, queue


@pytest.mark.parametrize("adaptive", [False, True])
def test_nobody_waits_for_the_batch_that_its_task_becomes_part_of(adaptive: bool):
    clock, scheduler, queue = joining(2, adaptive=adaptive)
    queue.enqueue("a", 1, NEVER)
    queue.enqueue("b", 1, clock.monotonic() + 1.1)
    with pytest.raises(ResourceExhausted, match=r"wait for about 1 s; the most is 0\.5 s"):
        queue.enqueue("c", 1, NEVER)
    scheduler.run_once()
    queue.enqueue("c", 1, NEVER)


def test_the_run_that_a_task_waits_for_is_that_of_its_whole_batch():
    clock, run_times = FakeClock(), RunTimes()
    scheduler = stepped(clock)
    run_times.learn(1, 1.0)
    run_times.learn(16, 16.0)
    rules: BatchQueue[str] = BatchQueue(QueueOptions(max_batch_size=16), not_split, run_times)
    place = Place(admission=Admission())
    queue: SharedQueue[str] = scheduler.add_queue(rules, lambda _: True, place)
    other: SharedQueue[str] = scheduler.add_queue(
        BatchQueue(QueueOptions(), not_split, run_times), lambda _: True, Place()
    )
    other.enqueue("other", 1, NEVER)
    queue.enqueue("a", 15, NEVER)
    with pytest.raises(ResourceExhausted, match=r"wait for about 1 s; its deadline is in 16\.5 s"):
        queue.enqueue("b", 1, clock.monotonic() + 16.5)
    queue.enqueue("b", 1, clock.monotonic() + 17.5)


@pytest.mark.parametrize(
    ("enqueued", "size", "expected"),
    [
        ((), 1, Ahead(0.0, 1)),
        ((), 0, Ahead(0.0, 0)),
        ((3,), 1, Ahead(0.0, 4)),
        ((3,), 2, Ahead(4.0, 1)),
        ((4, 4), 4, Ahead(8.0, 4)),
        ((4, 3), 10, Ahead(16.0, 1)),
    ],
)
def test_a_task_that_is_split_waits_for_the_batches_before_that_of_its_last_part(
    enqueued: Sequence[int], size: int, expected: Ahead
):
    run_times = RunTimes()
    for rows in (1, 4):
        run_times.learn(rows, float(rows))
    options = QueueOptions(enable_large_batch_splitting=True, max_execution_batch_size=4)
    queue: BatchQueue[Rows] = BatchQueue(options, cut, run_times)
    for number, rows in enumerate(enqueued):
        queue.add(Entry(number, (number, 0, rows), rows), 0.0)
    assert queue.ahead(size) == expected


@pytest.mark.parametrize(
    ("waiting", "size", "expected"),
    [
        (0, 1, Ahead(0.0, 1)),
        (0, 3, Ahead(0.0, 3)),
        (2, 3, Ahead(2.0, 3)),
        (2, 1, Ahead(2.0, 1)),
        (0, 10, Ahead(8.0, 2)),
        (1, 10, Ahead(9.0, 2)),
    ],
)
def test_a_task_larger_than_adaptive_batches_are_is_not_before_itself(
    waiting: int, size: int, expected: Ahead
):
    """They begin with a row each; a task of up to four is not split."""
    run_times = RunTimes()
    for rows in (1, 4):
        run_times.learn(rows, float(rows))
    limits = QueueOptions(enable_large_batch_splitting=True, max_execution_batch_size=4)
    rules: AdaptiveQueue[Rows] = AdaptiveQueue(BatchingOptions(limits), cut, run_times)
    for number in range(waiting):
        rules.add(Entry(number, (number, 0, 1), 1), 0.0)
    assert rules.ahead(size) == expected


def find_that_two_rows_pay(queue: AdaptiveQueue[str]) -> None:
    """A second for one batch of any size."""
    for ticket in range(8):
        queue.add(Entry(ticket, "a", 1), 0.0)
    now = 0.0
    while not queue.is_empty:
        batch = queue.take(now)
        now += 1.0
        queue.processed(batch, now)
    assert queue.most_at_once == 1


def test_one_that_has_to_wait_for_its_queues_only_batch_is_not_thought_to_begin_at_once():
    """However many threads are idle."""
    clock, run_times, model = FakeClock(), RunTimes(), Hanging()
    for size in (1, 2):
        run_times.learn(size, 1.0)
    with threads(2, clock) as scheduler:
        options = BatchingOptions(QueueOptions(max_batch_size=2), adaptive=True)
        adaptive: AdaptiveQueue[str] = AdaptiveQueue(options, not_split, run_times)
        find_that_two_rows_pay(adaptive)
        queue: SharedQueue[str] = scheduler.add_queue(
            adaptive, model.process, Place(admission=Admission(500_000))
        )
        queue.enqueue("a", 2, NEVER)
        model.await_held()
        await_(lambda: scheduler._threads.any_idle)
        with pytest.raises(ResourceExhausted, match="wait for about 1 s"):
            queue.enqueue("b", 1, NEVER)
        model.go_on.set()


def test_one_that_is_too_large_is_told_so_and_not_to_come_again():
    timed = Timed(1.0, Admission(max_wait_micros=0))
    timed.queue.enqueue("a", 1, NEVER)
    with pytest.raises(InvalidArgument, match="Task size 2 is larger than maximum input batch"):
        timed.queue.enqueue("bb", 2, NEVER)
    timed.queue.end()
    with pytest.raises(Unavailable):
        timed.queue.enqueue("b", 1, NEVER)
