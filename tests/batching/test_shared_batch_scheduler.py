"""Threads and turns: which queue's batch is processed when, and that none is forgotten."""

from __future__ import annotations

import gc
import math
import queue as fifo
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import WAIT_SECONDS, await_

from serving.batching.adaptive_queue import AdaptiveQueue
from serving.batching.batch_queue import Ahead, BatchQueue, Entry, Split, TaskQueue
from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.lane import Place, Share
from serving.batching.run_times import RunTimes
from serving.batching.shared_batch_scheduler import Process, SharedBatchScheduler, SharedQueue
from serving.core.clock import Clock, SystemClock
from serving.core.errors import InvalidArgument, ResourceExhausted, ServingError, Unavailable
from serving.testing import FakeClock

Rows = tuple[int, int, int]
"""A task of the simulation: its number, and its rows from … to."""

NEVER = math.inf


def cut(task: Rows, sizes: Sequence[int]) -> list[Rows]:
    number, start, _ = task
    parts = []
    for size in sizes:
        parts.append((number, start, start + size))
        start += size
    return parts


def not_split(task: object, sizes: Sequence[int]) -> list[object]:
    raise AssertionError(f"{task} should not be split into {sizes}")


def add_queue(
    scheduler: SharedBatchScheduler,
    options: QueueOptions,
    process: Process,
    split: Split = not_split,
    place: Place | None = None,
) -> SharedQueue:
    return scheduler.add_queue(BatchQueue(options, split, RunTimes()), process, place)


@contextmanager
def threads(count: int, clock: Clock) -> Iterator[SharedBatchScheduler]:
    """A scheduler with so many threads, ended with the block."""
    scheduler = SharedBatchScheduler(SchedulerOptions(count, hung_batch_seconds=30), clock)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()


def stepped(clock: Clock | None = None) -> SharedBatchScheduler:
    return SharedBatchScheduler(SchedulerOptions(1), clock or FakeClock())


def step_all(scheduler: SharedBatchScheduler) -> None:
    while scheduler.run_once():
        pass


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


class Hanging:
    """A model that hangs until ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self._held = threading.Semaphore(0)

    def process(self, _tasks: Sequence[str]) -> None:
        self._held.release()
        self.go_on.wait(WAIT_SECONDS)

    def await_held(self) -> None:
        """Return once one more thread is held."""
        assert self._held.acquire(timeout=WAIT_SECONDS)

    @property
    def holds_more(self) -> bool:
        return self._held.acquire(blocking=False)


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
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    queue = add_queue(scheduler, QueueOptions(max_batch_size=1), model.process)
    queue.enqueue("hangs", 1, NEVER)
    model.await_held()
    before = threading.active_count()
    clock.advance(10**6)
    scheduler.replace_hung_threads()
    assert threading.active_count() == before
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
        before = threading.active_count()
        for _ in range(5):
            queue.enqueue("hangs too", 1, NEVER)
            clock.advance(30)
            scheduler.replace_hung_threads()
        await_(lambda: threading.active_count() == before + 2)
        assert not scheduler.run_once()


def test_a_thread_that_comes_back_leaves_no_more_threads_than_there_should_be():
    clock, model = FakeClock(), Hanging()
    with threads(1, clock) as scheduler:
        before = threading.active_count()
        queue = add_queue(scheduler, QueueOptions(max_batch_size=1), model.process)
        queue.enqueue("hangs", 1, NEVER)
        model.await_held()
        clock.advance(30)
        scheduler.replace_hung_threads()
        await_(lambda: threading.active_count() == before + 1)
        queue.enqueue("waits for it", 1, NEVER)
        await_(lambda: scheduler._threads.any_idle)
        model.go_on.set()
        await_(lambda: threading.active_count() == before)
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
        before = threading.active_count()
        scheduler.resize(3)
        assert threading.active_count() == before + 2
        together = threading.Barrier(4)
        options = QueueOptions(max_batch_size=1)
        queue = add_queue(scheduler, options, lambda _: together.wait(WAIT_SECONDS))
        for _ in range(3):
            queue.enqueue("task", 1, NEVER)
        together.wait(WAIT_SECONDS)
        scheduler.resize(1)
        await_(lambda: threading.active_count() == before)


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
