"""Batch threads that any number of queues share."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from serving.batching.batch_queue import Batch, Entry, TaskQueue
from serving.batching.batch_threads import BatchThread, BatchThreads, wake
from serving.batching.batching_options import Admission, SchedulerOptions
from serving.batching.lane import Lane, Place
from serving.batching.turns import Turns
from serving.core.clock import Clock
from serving.core.errors import ResourceExhausted
from serving.core.periodic import PeriodicThread

log = logging.getLogger(__name__)

T = TypeVar("T")

_SECONDS_TO_STOP = 10.0
_SECONDS_BETWEEN_LOOKS = 5.0

Process = Callable[[Sequence[T]], bool]
"""Does the work of one batch; called on a batch thread, which it may hold.

Returns whether all of it was run, so that the time this took says something of the next.
"""

Abandon = Callable[[Sequence[T]], None]
"""Gets the tasks that are not to be processed any more."""


class SharedQueue(Generic[T]):
    """One queue of a scheduler, for those who put tasks into it. Thread-safe."""

    __slots__ = ("_lane", "_scheduler")

    def __init__(self, scheduler: SharedBatchScheduler, lane: Lane) -> None:
        self._scheduler = scheduler
        self._lane = lane

    def enqueue(self, task: T, size: int, deadline: float) -> int:
        """Have the task processed in some batch; returns its ticket at once.

        Raises InvalidArgument for a task that is too large, Unavailable when the queue is full or
        closed, ResourceExhausted for one that is not admitted.
        """
        return self._scheduler.enqueue(self._lane, task, size, deadline)

    def withdraw(self, ticket: int) -> Sequence[T]:
        """The task, or those of its parts that no thread has taken yet; they are not processed."""
        return self._scheduler.withdraw(self._lane, ticket)

    def end(self) -> None:
        """Take no more tasks. Idempotent."""
        self._scheduler.end(self._lane)

    def close(self) -> None:
        """End, and return when those enqueued are processed. Idempotent."""
        self.end()
        self._lane.drained.wait()

    def is_drained(self) -> bool:
        """Whether the queue has ended and holds nothing."""
        return self._lane.drained.is_set()

    def waiting_rows(self) -> int:
        """The sizes of the tasks that no thread has taken yet, together."""
        return self._scheduler.waiting_rows(self._lane)


class SharedBatchScheduler:
    """Takes batches from its queues in turn, one each, and processes them on its threads.

    What tasks are is the queues' users' business. Threads sleep until a batch is ready, and at
    most one of them, the timekeeper, until the first batch will be. A thread whose batch does not
    come back is replaced, so that one model that hangs leaves threads to the others. Without
    :meth:`start` there are no threads, and :meth:`run_once` does their work. Thread-safe.
    """

    def __init__(self, options: SchedulerOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._tickets = itertools.count()
        self._lanes: dict[int, Lane] = {}
        self._waiting: dict[int, Lane] = {}  # those of them that hold tasks
        self._turns = Turns()
        self._threads = BatchThreads(
            options.num_batch_threads, options.thread_pool_name, self._work
        )
        self._stopping = False
        self._watch = PeriodicThread(
            f"{options.thread_pool_name}_watch",
            self.replace_hung_threads,
            _SECONDS_BETWEEN_LOOKS,
            clock,
        )

    def start(self) -> None:
        """Start the threads, once."""
        self._start_missing_threads()
        if self._options.hung_batch_seconds:
            self._watch.start()

    def stop(self, grace_seconds: float = _SECONDS_TO_STOP) -> None:
        """End all queues and have the threads process what they hold; what they have not taken
        within the grace is abandoned. A thread whose batch does not come back is left to itself.
        Idempotent.
        """
        self._watch.stop()
        with self._lock:
            self._stopping = True
            for lane in self._lanes.values():
                lane.queue.end()
            self._threads.leave_idle_all()
            self._threads.wake_all()
            ending = [thread.thread for thread in self._threads if not thread.lost]
        until = self._clock.monotonic() + grace_seconds
        for thread in ending:
            thread.join(max(0.0, until - self._clock.monotonic()))
        self._abandon_waiting()

    @property
    def num_batch_threads(self) -> int:
        """How many threads there are to be."""
        return self._threads.count

    def resize(self, num_batch_threads: int) -> None:
        """Have so many threads from now on; those too many end after their batch."""
        with self._lock:
            self._threads.count = num_batch_threads
            self._threads.wake_all()
        self._start_missing_threads()

    def add_queue(
        self,
        queue: TaskQueue[T],
        process: Process[T],
        place: Place | None = None,
        abandon: Abandon[T] | None = None,
    ) -> SharedQueue[T]:
        """Serve a queue, which is the scheduler's from now on; the last in turn.

        ``abandon`` gets the tasks that are not processed before the scheduler has stopped, on the
        thread that stops it; None: nobody asks for them. It must not wait.
        """
        with self._lock:
            lane = Lane(next(self._numbers), queue, process, place or Place(), abandon)
            self._lanes[lane.number] = lane
            if self._stopping:
                queue.end()
        return SharedQueue(self, lane)

    def run_once(self, thread: BatchThread | None = None) -> bool:
        """Process the next batch on the calling thread; False when none is ready."""
        now = self._clock.monotonic()
        with self._lock:
            taken, helper = self._take(now)
            if taken is not None and thread is not None:
                thread.busy(taken[0], taken[1].size, now)
        wake(helper)
        if taken is None:
            return False
        self._process(*taken)
        return True

    def replace_hung_threads(self) -> None:
        """Start a thread for each whose batch has been running for too long, where that counts."""
        if not self._options.hung_batch_seconds:
            return
        latest = self._clock.monotonic() - self._options.hung_batch_seconds
        with self._lock:
            hung = self._threads.lose_hung(latest)
        for _ in range(hung):
            log.warning(
                "a batch has been running for over %g s; another thread takes the place of its own "
                "meanwhile",
                self._options.hung_batch_seconds,
            )
        self._start_missing_threads()

    def _start_missing_threads(self) -> None:
        with self._lock:
            if not self._stopping:
                self._threads.start_missing()

    def enqueue(self, lane: Lane, task: Any, size: int, deadline: float) -> int:
        """As :meth:`SharedQueue.enqueue`."""
        now = self._clock.monotonic()
        with self._lock:
            entry = Entry(next(self._tickets), task, size, deadline)
            if lane.admission is not None:
                lane.queue.check_accepts(size)
                self._admit(lane, lane.admission, entry, now)
            lane.queue.add(entry, now)
            self._waiting[lane.number] = lane
            if lane.announced or not self._threads.any_idle:
                return entry.ticket  # a thread that was woken, or is busy, has yet to look
            ready_at = self._ready_at(lane)
            helper = self._threads.helper_for(ready_at, now)
            lane.announced = ready_at <= now and helper is not None
        wake(helper)
        return entry.ticket

    def _admit(self, lane: Lane, admission: Admission, entry: Entry[Any], now: float) -> None:
        """Raise ResourceExhausted for a task that would have to wait for too long.

        One that need not wait is let in whatever was measured: from it better may be learned.
        """
        ahead = lane.queue.ahead(entry.size)
        wait = self._expected_wait(lane, ahead.seconds, now)
        too_long = ""
        if wait > admission.max_wait_seconds:
            too_long = f"the most is {admission.max_wait_seconds:g} s"
        elif wait and now + wait + lane.queue.expected_run(ahead.rows) > entry.deadline:
            too_long = f"its deadline is in {max(0.0, entry.deadline - now):.3g} s"
        if too_long:
            raise ResourceExhausted(
                f"The request would have to wait for about {wait:.3g} s; {too_long}",
                retry_after_seconds=wait,
            )

    def _expected_wait(self, lane: Lane, own: float, now: float) -> float:
        """Seconds until what runs is done, and what goes before a batch of the lane: ``own``
        seconds of its queue's batches, and those of others.
        """
        runs_at_once = not self._is_held(lane) and lane.in_progress < lane.queue.most_at_once
        if runs_at_once and not own and self._threads.any_idle:
            return 0.0
        others = sum(
            other.queue.expected_seconds
            for other in self._waiting.values()
            if other is not lane and other.priority <= lane.priority
        )
        for thread in self._threads:
            left = 0.0 if thread.lost else max(0.0, thread.busy_until - now)
            if thread.lane is lane:
                own += left
            else:
                others += left
        at_once = min(lane.queue.most_at_once, self._most_in_progress(lane))
        return own / at_once + others / self._threads.count

    def withdraw(self, lane: Lane, ticket: int) -> Sequence[Any]:
        """As :meth:`SharedQueue.withdraw`."""
        with self._lock:
            withdrawn = lane.queue.withdraw(ticket)
            if self._ready_at(lane) > self._clock.monotonic():
                lane.announced = False  # the thread that was woken will find nothing
            if lane.queue.is_empty:
                self._waiting.pop(lane.number, None)
                self._forget_if_drained(lane)
        return withdrawn

    def waiting_rows(self, lane: Lane) -> int:
        """As :meth:`SharedQueue.waiting_rows`."""
        with self._lock:
            return lane.queue.rows

    def end(self, lane: Lane) -> None:
        """As :meth:`SharedQueue.end`."""
        with self._lock:
            lane.queue.end()
            self._forget_if_drained(lane)
            helper = self._threads.helper_for(self._ready_at(lane), self._clock.monotonic())
        wake(helper)

    def _take(self, now: float) -> tuple[tuple[Lane, Batch[Any]] | None, BatchThread | None]:
        """The next batch and its queue, if one is ready; and who has to look after the others."""
        for lane in self._turns.order(self._waiting.values(), now):
            lane.announced = False
            if self._ready_at(lane) > now:
                continue
            self._turns.taken(lane, now, is_last=lane.number == next(reversed(self._lanes)))
            batch = lane.queue.take(now)
            lane.in_progress += 1
            lane.share.in_progress += 1
            if lane.queue.is_empty:
                del self._waiting[lane.number]
            return (lane, batch), self._threads.helper_for(self._first_ready_at(), now)
        return None, None

    def _is_held(self, lane: Lane) -> bool:
        """Whether the lane's version has as many batches in progress as it may."""
        return lane.share.in_progress >= self._most_in_progress(lane)

    def _most_in_progress(self, lane: Lane) -> int:
        return min(lane.share.most or self._threads.count, self._threads.count)

    def _ready_at(self, lane: Lane) -> float:
        return math.inf if self._is_held(lane) else lane.queue.ready_at

    def _first_ready_at(self) -> float:
        return min(map(self._ready_at, self._waiting.values()), default=math.inf)

    def _process(self, lane: Lane, batch: Batch[Any]) -> None:
        tasks = batch.tasks
        batch.succeeded = False
        try:
            batch.succeeded = lane.process(tasks)
        except Exception:
            log.exception("a batch of %d tasks was not processed", len(tasks))
        finally:
            now = self._clock.monotonic()
            with self._lock:
                lane.in_progress -= 1
                lane.share.in_progress -= 1
                lane.queue.processed(batch, now)
                self._forget_if_drained(lane)

    def _forget_if_drained(self, lane: Lane) -> None:
        if lane.queue.is_ending and lane.queue.is_empty and not lane.in_progress:
            self._lanes.pop(lane.number, None)
            lane.drained.set()

    def _abandon_waiting(self) -> None:
        now = self._clock.monotonic()
        abandoned: list[tuple[Lane, list[Any]]] = []
        with self._lock:
            for lane in self._waiting.values():
                while not lane.queue.is_empty:
                    abandoned.append((lane, lane.queue.take(now).tasks))
            self._waiting.clear()
        for lane, tasks in abandoned:
            if lane.abandon is not None:
                lane.abandon(tasks)
        with self._lock:
            for lane, _ in abandoned:
                self._forget_if_drained(lane)

    def _work(self, thread: BatchThread) -> None:
        # One batch a call: what it held is not kept in memory while the thread sleeps.
        while self._work_once(thread):
            pass

    def _work_once(self, thread: BatchThread) -> bool:
        """Wait for a batch and process it; False when the thread is to end."""
        while not self.run_once(thread):
            with self._lock:
                if self._stopping or self._threads.surplus > 0:
                    self._threads.leave(thread)  # others process what cannot be taken now
                    return False
                now = self._clock.monotonic()
                timeout = self._threads.begin_to_sleep(thread, self._first_ready_at(), now)
            if timeout is None or timeout > 0:
                self._clock.wait(thread.wake, timeout)
            with self._lock:
                self._threads.leave_idle(thread)
        with self._lock:
            thread.rest()
            if self._threads.surplus <= 0:
                return True
            self._threads.leave(thread)
            # It would have looked after what became ready with the end of its batch.
            helper = self._threads.helper_for(self._first_ready_at(), self._clock.monotonic())
        wake(helper)
        return False
