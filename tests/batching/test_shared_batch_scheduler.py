"""Threads and turns: which queue's batch is processed when, and that none is forgotten."""

from __future__ import annotations

import gc
import math
import queue as fifo
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
from waiting import WAIT_SECONDS, await_

from serving.batching.batching_options import (
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.lane import Place, Share
from serving.batching.shared_batch_scheduler import SharedBatchScheduler, SharedQueue
from serving.core.clock import SystemClock
from serving.core.errors import ServingError, Unavailable
from serving.testing import FakeClock


class Model:
    """The rules said again in the plainest way: every row on its own, every queue asked in turn."""

    def __init__(self, queues: Sequence[QueueOptions]) -> None:
        self.queues = queues
        self.batches: list[deque[list[tuple[int, int]]]] = [deque([[]]) for _ in queues]
        self.since = [0.0] * len(queues)
        self.turn = 0

    def enqueue(self, index: int, number: int, size: int, now: float) -> bool:
        """Whether the task was accepted."""
        options, batches = self.queues[index], self.batches[index]
        most, limit = options.max_batch_size, options.execution_limit
        room = limit - len(batches[-1])
        more = (options.max_enqueued_batches - len(batches)) * limit
        if size > most:
            return False
        if options.enable_large_batch_splitting:
            if size > room + more:
                return False
        elif size > room:
            if len(batches) >= options.max_enqueued_batches:
                return False
            batches.append([])
        for row in range(size):
            if len(batches[-1]) == limit:
                batches.append([])
            if not batches[-1]:
                self.since[index] = now
            batches[-1].append((number, row))
        return True

    def take(self, now: float) -> tuple[int, list[tuple[int, int]]] | None:
        for offset in range(len(self.queues)):
            index = (self.turn + offset) % len(self.queues)
            options, batches = self.queues[index], self.batches[index]
            timed_out = now >= self.since[index] + options.batch_timeout_micros / 1e6
            full = len(batches[-1]) == options.execution_limit
            if len(batches) == 1 and batches[0] and (timed_out or full):
                batches.append([])
            if len(batches) > 1:
                self.turn = index + 1
                return index, batches.popleft()
        return None


def queue_options() -> st.SearchStrategy[QueueOptions]:
    return st.builds(
        lambda most, timeout, enqueued, split, execution: QueueOptions(
            max_batch_size=most,
            batch_timeout_micros=timeout,
            max_enqueued_batches=enqueued,
            enable_large_batch_splitting=split,
            max_execution_batch_size=min(execution, most),
        ),
        st.integers(1, 6),
        st.sampled_from([0, 250_000, 1_000_000]),  # whole in binary, as the steps of time are
        st.integers(1, 3),
        st.booleans(),
        st.integers(1, 6),
    )


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.integers(0, 3), st.integers(1, 7)),
        st.tuples(st.just("advance"), st.integers(1, 5), st.just(0)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(st.lists(queue_options(), min_size=1, max_size=4), EVENTS)
def test_the_same_batches_in_the_same_order_as_the_plainest_model(
    queues: list[QueueOptions], events: list[tuple[str, int, int]]
):
    clock, model = FakeClock(), Model(queues)
    scheduler = stepped(clock)
    processed: list[tuple[int, list[tuple[int, int]]]] = []

    def process(index: int) -> Callable[[Sequence[Rows]], None]:
        return lambda tasks: processed.append(
            (index, [(number, row) for number, start, end in tasks for row in range(start, end)])
        )

    added = [add_queue(scheduler, o, process(index), cut) for index, o in enumerate(queues)]
    expected = []
    for number, (event, first, second) in enumerate(events):
        if event == "enqueue":
            index = first % len(queues)
            accepted = model.enqueue(index, number, second, clock.monotonic())
            assert accepted == is_accepted(added[index], (number, 0, second), second)
        elif event == "advance":
            clock.advance(first * 0.25)
        else:
            taken = model.take(clock.monotonic())
            assert scheduler.run_once() == (taken is not None)
            expected += [taken] if taken else []
        assert processed == expected


def is_accepted(queue: SharedQueue[Rows], task: Rows, size: int) -> bool:
    try:
        queue.enqueue(task, size, NEVER)
    except ServingError:
        return False
    return True


def test_queues_take_turns_one_batch_each():
    scheduler, processed = stepped(), []
    options = QueueOptions(max_batch_size=1)
    a, b, c = (add_queue(scheduler, options, processed.extend) for _ in range(3))
    for queue, tasks in ((a, ["a1", "a2", "a3"]), (b, ["b1"]), (c, ["c1", "c2"])):
        for task in tasks:
            queue.enqueue(task, 1, NEVER)
    step_all(scheduler)
    assert processed == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_threads_sleep_until_the_first_open_batch_times_out():
    clock, processed = FakeClock(), fifo.Queue[str]()

    def process(tasks: Sequence[str]) -> None:
        for task in tasks:
            processed.put(task)

    with threads(2, clock) as scheduler:
        later = add_queue(scheduler, QueueOptions(batch_timeout_micros=9_000_000), process)
        sooner = add_queue(scheduler, QueueOptions(batch_timeout_micros=1_000_000), process)
        later.enqueue("later", 1, NEVER)
        await_(lambda: any(math.isfinite(until) for until in clock._waits))
        sooner.enqueue("sooner", 1, NEVER)
        clock.advance(1)
        assert processed.get(timeout=WAIT_SECONDS) == "sooner"
        assert processed.empty()
        clock.advance(8)
        assert processed.get(timeout=WAIT_SECONDS) == "later"


def test_a_thread_that_sleeps_again_is_woken_again():
    processed = fifo.Queue[Sequence[int]]()
    with threads(1, SystemClock()) as scheduler:
        queue = add_queue(scheduler, QueueOptions(), processed.put)
        for number in range(3):
            await_(lambda: scheduler._threads.any_idle)
            queue.enqueue(number, 1, NEVER)
            assert processed.get(timeout=WAIT_SECONDS) == [number]


def test_as_many_batches_are_processed_at_once_as_there_are_threads():
    together = threading.Barrier(4)
    with threads(3, SystemClock()) as scheduler:
        options = QueueOptions(max_batch_size=1)
        queue = add_queue(scheduler, options, lambda _: together.wait(WAIT_SECONDS))
        for _ in range(3):
            queue.enqueue("task", 1, NEVER)
        together.wait(WAIT_SECONDS)
        assert not together.broken


def test_every_task_of_many_submitters_is_processed_exactly_once():
    processed: list[tuple[int, int]] = []
    with threads(3, SystemClock()) as scheduler:
        queues = [
            add_queue(
                scheduler,
                QueueOptions(
                    max_batch_size=4, batch_timeout_micros=timeout, max_enqueued_batches=10_000
                ),
                processed.extend,
                not_split,
            )
            for timeout in (0, 0, 300)
        ]

        def submit(submitter: int) -> None:
            for number in range(300):
                queues[number % 3].enqueue((submitter, number), 1, NEVER)

        submitters = [threading.Thread(target=submit, args=(index,)) for index in range(4)]
        for thread in submitters:
            thread.start()
        for thread in submitters:
            thread.join()
        for queue in queues:
            queue.close()
        assert sorted(processed) == [(s, n) for s in range(4) for n in range(300)]


def test_what_processing_raises_is_logged_and_the_thread_goes_on(
    caplog: pytest.LogCaptureFixture,
):
    processed = threading.Event()

    def process(tasks: Sequence[str]) -> None:
        if tasks == ["bad"]:
            raise RuntimeError("defect")
        processed.set()

    with threads(1, SystemClock()) as scheduler:
        queue = add_queue(scheduler, QueueOptions(max_batch_size=1), process)
        queue.enqueue("bad", 1, NEVER)
        queue.enqueue("good", 1, NEVER)
        assert processed.wait(WAIT_SECONDS)
    assert "a batch of 1 tasks was not processed" in caplog.text


def test_closing_a_queue_returns_when_all_it_held_is_processed():
    clock = FakeClock()
    entered, go_on = threading.Event(), threading.Event()
    processed: list[str] = []

    def process(tasks: Sequence[str]) -> None:
        entered.set()
        assert go_on.wait(WAIT_SECONDS)
        processed.extend(tasks)

    with threads(1, clock) as scheduler:
        options = QueueOptions(max_batch_size=2, batch_timeout_micros=10**9)
        queue = add_queue(scheduler, options, process)
        for task in ("a", "b", "c"):
            queue.enqueue(task, 1, NEVER)
        assert entered.wait(WAIT_SECONDS)
        closing = threading.Thread(target=queue.close)
        closing.start()
        await_refusal(queue)
        assert closing.is_alive()
        go_on.set()
        closing.join(WAIT_SECONDS)
        assert processed == ["a", "b", "c"]
        queue.close()


def await_refusal(queue: SharedQueue[str]) -> None:
    """Return once the queue takes no more tasks; one it took counts as any other's."""
    while True:
        try:
            queue.enqueue("too large", 3, NEVER)
        except Unavailable:
            return
        except ServingError:
            continue


def test_closing_an_idle_queue_returns_at_once_and_others_go_on():
    scheduler, processed = stepped(), []
    closed = add_queue(scheduler, QueueOptions(), processed.extend)
    other = add_queue(scheduler, QueueOptions(), processed.extend)
    closed.close()
    with pytest.raises(Unavailable):
        closed.enqueue("a", 1, NEVER)
    other.enqueue("b", 1, NEVER)
    step_all(scheduler)
    assert processed == ["b"]


def test_stopping_processes_what_waits_and_refuses_what_comes():
    scheduler = SharedBatchScheduler(SchedulerOptions(1), FakeClock())
    scheduler.start()
    processed: list[str] = []
    options = QueueOptions(batch_timeout_micros=10**9)
    queue = add_queue(scheduler, options, processed.extend)
    queue.enqueue("a", 1, NEVER)
    scheduler.stop()
    assert processed == ["a"]
    for refusing in (queue, add_queue(scheduler, options, processed.extend)):
        with pytest.raises(Unavailable):
            refusing.enqueue("b", 1, NEVER)
        refusing.close()


def test_a_sleeping_thread_keeps_no_task_in_memory():
    class Task:
        pass

    clock, processed = FakeClock(), threading.Event()
    with threads(1, clock) as scheduler:
        queue = add_queue(scheduler, QueueOptions(), lambda _: processed.set())
        task = Task()
        gone = weakref.ref(task)
        queue.enqueue(task, 1, NEVER)
        assert processed.wait(WAIT_SECONDS)
        del task
        queue.close()
        while gone() is not None:
            gc.collect()


def test_threads_bear_the_pools_name():
    scheduler = SharedBatchScheduler(SchedulerOptions(2, "pool"), SystemClock())
    scheduler.start()
    names = {thread.name for thread in threading.enumerate()}
    scheduler.stop()
    assert {"pool_0", "pool_1"} <= names


def test_queues_that_share_have_no_more_batches_in_progress_than_their_share():
    model, done = Hanging(), threading.Event()
    with threads(3, SystemClock()) as scheduler:
        options, place = QueueOptions(max_batch_size=1), Place(Share(most=2))
        for queue in [add_queue(scheduler, options, model.process, place=place) for _ in range(2)]:
            queue.enqueue("a", 1, NEVER)
            queue.enqueue("b", 1, NEVER)
        model.await_held()
        model.await_held()
        other = add_queue(scheduler, options, lambda _: done.set(), place=Place(Share()))
        other.enqueue("c", 1, NEVER)
        assert done.wait(WAIT_SECONDS)
        assert not model.holds_more
        model.go_on.set()
        model.await_held()
        model.await_held()


def test_a_queue_that_is_added_after_the_last_had_its_turn_is_the_last_still():
    scheduler, order = stepped(), []
    options = QueueOptions(max_batch_size=1)
    a = add_queue(scheduler, options, order.extend)
    b = add_queue(scheduler, options, order.extend)
    b.enqueue("b", 1, NEVER)
    scheduler.run_once()
    c = add_queue(scheduler, options, order.extend)
    a.enqueue("a", 1, NEVER)
    c.enqueue("c", 1, NEVER)
    step_all(scheduler)
    assert order == ["b", "a", "c"]
