"""Tasks that are given up while they wait."""

from __future__ import annotations

import threading

from stepped_scheduler import (
    NEVER,
    add_queue,
    cut,
    step_all,
    stepped,
    threads,
)
from waiting import WAIT_SECONDS, await_

from serving.batching.batching_options import (
    QueueOptions,
)
from serving.core.clock import SystemClock


def test_what_is_withdrawn_is_not_processed_and_another_may_take_its_place():
    scheduler, processed = stepped(), []
    options = QueueOptions(max_batch_size=2, max_enqueued_batches=1)
    queue = add_queue(scheduler, options, processed.extend)
    first = queue.enqueue("a", 1, NEVER)
    queue.enqueue("b", 1, NEVER)
    assert queue.withdraw(first) == ["a"]
    assert queue.withdraw(first) == []
    queue.enqueue("c", 1, NEVER)
    step_all(scheduler)
    assert processed == ["b", "c"]


def test_a_queue_from_which_all_is_withdrawn_closes():
    scheduler = stepped()
    queue = add_queue(scheduler, QueueOptions(batch_timeout_micros=10**9), lambda _: None)
    queue.withdraw(queue.enqueue("a", 1, NEVER))
    assert not scheduler.run_once()
    queue.close()
    assert queue.is_drained()


def test_a_task_after_one_that_was_withdrawn_before_the_woken_thread_came_is_processed():
    processed = threading.Event()
    with threads(1, SystemClock()) as scheduler:
        queue = add_queue(scheduler, QueueOptions(), lambda _: processed.set())
        await_(lambda: scheduler._threads.any_idle)
        while not queue.withdraw(queue.enqueue("given up", 1, NEVER)):
            await_(lambda: scheduler._threads.any_idle)  # the thread was quicker
        processed.clear()
        await_(lambda: scheduler._threads.any_idle)
        queue.enqueue("wanted", 1, NEVER)
        assert processed.wait(WAIT_SECONDS)


def test_a_task_that_is_taken_cannot_be_withdrawn():
    scheduler, withdrawn = stepped(), []
    queue = add_queue(scheduler, QueueOptions(), lambda _: withdrawn.append(queue.withdraw(ticket)))
    ticket = queue.enqueue("a", 1, NEVER)
    step_all(scheduler)
    assert withdrawn == [[]]


def test_the_parts_of_a_split_task_that_wait_are_withdrawn():
    scheduler, processed = stepped(), []
    options = QueueOptions(
        max_batch_size=6, enable_large_batch_splitting=True, max_execution_batch_size=2
    )
    queue = add_queue(scheduler, options, processed.extend, cut)
    ticket = queue.enqueue((1, 0, 6), 6, NEVER)
    assert scheduler.run_once()
    assert queue.withdraw(ticket) == [(1, 2, 4), (1, 4, 6)]
    step_all(scheduler)
    assert processed == [(1, 0, 2)]
