"""Batch threads that hang, that are missing, and that are too many."""

from __future__ import annotations

import queue as fifo
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from stepped_scheduler import (
    NEVER,
    Hanging,
    add_queue,
    new_pool_name,
    num_threads,
    threads,
)
from waiting import WAIT_SECONDS, await_

from serving.batching.batching_options import (
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.lane import Place, Share
from serving.batching.shared_batch_scheduler import SharedBatchScheduler, SharedQueue
from serving.core.clock import Clock, SystemClock
from serving.testing import FakeClock


@contextmanager
def hanging(num_threads: int, clock: Clock) -> Iterator[tuple[SharedBatchScheduler, SharedQueue]]:
    """A scheduler all of whose threads are held by the batches of one queue until the end."""
    model = Hanging()
    with threads(num_threads, clock) as scheduler:
        options = QueueOptions(max_batch_size=1)
        queue = add_queue(scheduler, options, model.process, place=Place(Share()))
        for _ in range(num_threads):
            queue.enqueue("hangs", 1, NEVER)
            model.await_held()
        try:
            yield scheduler, queue
        finally:
            model.go_on.set()


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_that_hang_are_replaced_and_other_queues_go_on(num_threads: int):
    clock = FakeClock()
    processed: fifo.Queue[list[str]] = fifo.Queue()
    with hanging(num_threads, clock) as (scheduler, _):
        other = add_queue(scheduler, QueueOptions(), processed.put, place=Place(Share()))
        other.enqueue("a", 1, NEVER)
        clock.advance(29)
        scheduler.replace_hung_threads()
        assert processed.empty()
        clock.advance(1)
        scheduler.replace_hung_threads()
        assert processed.get(timeout=WAIT_SECONDS) == ["a"]


def test_unless_asked_for_no_thread_is_replaced_however_long_its_batch_runs():
    clock, model = FakeClock(), Hanging()
    options = SchedulerOptions(1, thread_pool_name=new_pool_name())
    scheduler = SharedBatchScheduler(options, clock)
    scheduler.start()
    queue = add_queue(scheduler, QueueOptions(max_batch_size=1), model.process)
    queue.enqueue("hangs", 1, NEVER)
    model.await_held()
    before = num_threads(scheduler)
    clock.advance(10**6)
    scheduler.replace_hung_threads()
    assert num_threads(scheduler) == before
    model.go_on.set()
    scheduler.stop()


def test_threads_that_could_not_be_started_are_started_later(monkeypatch: pytest.MonkeyPatch):
    processed: fifo.Queue[list[str]] = fifo.Queue()

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    scheduler = SharedBatchScheduler(SchedulerOptions(1), SystemClock())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            scheduler.resize(1)
    scheduler.resize(1)
    add_queue(scheduler, QueueOptions(), processed.put).enqueue("a", 1, NEVER)
    assert processed.get(timeout=WAIT_SECONDS) == ["a"]
    scheduler.stop()


def test_the_queue_that_hangs_gets_no_more_threads_than_there_were():
    clock = FakeClock()
    with hanging(2, clock) as (scheduler, queue):
        before = num_threads(scheduler)
        for _ in range(5):
            queue.enqueue("hangs too", 1, NEVER)
            clock.advance(30)
            scheduler.replace_hung_threads()
        await_(lambda: num_threads(scheduler) == before + 2)
        assert not scheduler.run_once()


def test_a_thread_that_comes_back_leaves_no_more_threads_than_there_should_be():
    clock, model = FakeClock(), Hanging()
    with threads(1, clock) as scheduler:
        before = num_threads(scheduler)
        queue = add_queue(scheduler, QueueOptions(max_batch_size=1), model.process)
        queue.enqueue("hangs", 1, NEVER)
        model.await_held()
        clock.advance(30)
        scheduler.replace_hung_threads()
        await_(lambda: num_threads(scheduler) == before + 1)
        queue.enqueue("waits for it", 1, NEVER)
        await_(lambda: scheduler._threads.any_idle)
        model.go_on.set()
        await_(lambda: num_threads(scheduler) == before)
        model.await_held()  # the one that waited is processed, though nothing new comes
        processed: fifo.Queue[list[str]] = fifo.Queue()
        add_queue(scheduler, QueueOptions(), processed.put).enqueue("a", 1, NEVER)
        assert processed.get(timeout=WAIT_SECONDS) == ["a"]


def test_stopping_does_not_wait_for_a_thread_that_hangs():
    clock, model = FakeClock(), Hanging()
    scheduler = SharedBatchScheduler(SchedulerOptions(1, hung_batch_seconds=30), clock)
    scheduler.start()
    add_queue(scheduler, QueueOptions(), model.process).enqueue("hangs", 1, NEVER)
    model.await_held()
    clock.advance(30)
    scheduler.replace_hung_threads()
    stopping = threading.Thread(target=scheduler.stop)
    stopping.start()
    stopping.join(WAIT_SECONDS / 3)
    assert not stopping.is_alive()
    model.go_on.set()


def test_threads_can_be_more_and_fewer():
    with threads(1, SystemClock()) as scheduler:
        before = num_threads(scheduler)
        scheduler.resize(3)
        assert num_threads(scheduler) == before + 2
        together = threading.Barrier(4)
        options = QueueOptions(max_batch_size=1)
        queue = add_queue(scheduler, options, lambda _: together.wait(WAIT_SECONDS))
        for _ in range(3):
            queue.enqueue("task", 1, NEVER)
        together.wait(WAIT_SECONDS)
        scheduler.resize(1)
        await_(lambda: num_threads(scheduler) == before)
