"""Batch threads that any number of queues share."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from serving.batching.batch_queue import Batch, Entry, TaskQueue
from serving.batching.batching_options import Admission, SchedulerOptions
from serving.batching.lane import Lane, Place, Turns
from serving.core.clock import Clock
from serving.core.errors import ResourceExhausted
from serving.core.periodic import PeriodicThread

log = logging.getLogger(__name__)

T = TypeVar("T")

_SECONDS_TO_STOP = 10.0
_SECONDS_BETWEEN_LOOKS = 5.0

Process = Callable[[Sequence[T]], None]
"""Does the work of one batch; called on a batch thread, which it may hold."""


@dataclass(frozen=True, slots=True)
class SharedQueue(Generic[T]):
    """One queue of a scheduler, for those who put tasks into it. Thread-safe.

    ``enqueue(task, size, deadline)`` has the task processed in some batch and returns its ticket
    at once. It raises InvalidArgument for a task that is too large, Unavailable when the queue is
    full or closed, ResourceExhausted for one that is not admitted. ``withdraw(ticket)`` gives back
    the task, or those of its parts that no thread has taken yet; they will not be processed.
    ``end()`` takes no more tasks; ``close()`` does, and returns when those enqueued are processed.
    Both are idempotent. ``is_drained()``: whether the queue has ended and holds nothing.
    """

    enqueue: Callable[[T, int, float], int]
    withdraw: Callable[[int], Sequence[T]]
    end: Callable[[], None]
    close: Callable[[], None]
    is_drained: Callable[[], bool]


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
        self._num_threads = options.num_batch_threads
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._timekeeper: _Worker | None = None
        self._timekeeper_until = math.inf
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
        self._watch.start()

    def stop(self) -> None:
        """End all queues, process what they hold, and end the threads, but for those whose batch
        does not come back. Idempotent.
        """
        self._watch.stop()
        with self._lock:
            self._stopping = True
            for lane in self._lanes.values():
                lane.queue.end()
            self._idle.clear()
            workers = [worker for worker in self._workers if not worker.lost]
        for worker in workers:
            worker.wake.set()
        until = self._clock.monotonic() + _SECONDS_TO_STOP
        for worker in workers:
            worker.thread.join(max(0.0, until - self._clock.monotonic()))
        while self.run_once():
            pass

    def resize(self, num_batch_threads: int) -> None:
        """Have so many threads from now on; those too many end after their batch."""
        with self._lock:
            self._num_threads = num_batch_threads
            for worker in self._workers:
                worker.wake.set()
        self._start_missing_threads()

    def add_queue(
        self, queue: TaskQueue[T], process: Process[T], place: Place | None = None
    ) -> SharedQueue[T]:
        """Serve a queue, which is the scheduler's from now on; the last in turn."""
        lane = Lane(next(self._numbers), queue, process, place or Place())
        with self._lock:
            self._lanes[lane.number] = lane
            if self._stopping:
                queue.end()
        return SharedQueue(
            partial(self._enqueue, lane),
            partial(self._withdraw, lane),
            partial(self._end, lane),
            partial(self._close, lane),
            lane.drained.is_set,
        )

    def run_once(self, worker: _Worker | None = None) -> bool:
        """Process the next batch on the calling thread; False when none is ready."""
        now = self._clock.monotonic()
        with self._lock:
            taken, helper = self._take(now)
            if taken is not None and worker is not None:
                worker.busy(taken[0], taken[1], now)
        _wake(helper)
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
            for worker in self._workers:
                if worker.busy_since <= latest and not worker.lost:
                    worker.lost = True
                    log.warning(
                        "a batch has been running for over %g s; another thread takes the place "
                        "of its own meanwhile",
                        self._options.hung_batch_seconds,
                    )
        self._start_missing_threads()

    def _start_missing_threads(self) -> None:
        with self._lock:
            while not self._stopping and self._surplus() < 0:
                taken = {worker.number for worker in self._workers}
                number = next(number for number in itertools.count() if number not in taken)
                name = f"{self._options.thread_pool_name}_{number}"
                worker = _Worker(number, self._work, name)
                self._workers.add(worker)
                worker.thread.start()

    def _surplus(self) -> int:
        """The threads that there are too many; negative: that are missing."""
        return sum(not worker.lost for worker in self._workers) - self._num_threads

    def _enqueue(self, lane: Lane, task: Any, size: int, deadline: float = math.inf) -> int:
        now = self._clock.monotonic()
        with self._lock:
            entry = Entry(next(self._tickets), task, size, deadline)
            if lane.admission is not None:
                self._admit(lane, lane.admission, entry, now)
            lane.queue.add(entry, now)
            self._waiting[lane.number] = lane
            ready_at = self._ready_at(lane)
            helper = None
            if ready_at > now or not lane.announced:
                helper = self._helper_for(ready_at, now)
                lane.announced = ready_at <= now and helper is not None
        _wake(helper)
        return entry.ticket

    def _admit(self, lane: Lane, admission: Admission, entry: Entry[Any], now: float) -> None:
        """Raise ResourceExhausted for a task that would have to wait for too long.

        One that need not wait is let in whatever was measured: from it better may be learned.
        """
        wait = self._expected_wait(lane, now)
        too_long = ""
        if wait > admission.max_wait_seconds:
            too_long = f"the most is {admission.max_wait_seconds:g} s"
        elif wait and now + wait + lane.queue.expected_run(entry.size) > entry.deadline:
            too_long = f"its deadline is in {max(0.0, entry.deadline - now):.3g} s"
        if too_long:
            raise ResourceExhausted(
                f"The request would have to wait for about {wait:.3g} s; {too_long}",
                retry_after_seconds=wait,
            )

    def _expected_wait(self, lane: Lane, now: float) -> float:
        """Seconds until what runs, and what waits and goes before the lane's next, is done."""
        if self._idle and lane.queue.is_empty and not self._is_held(lane):
            return 0.0
        own = lane.queue.expected_seconds
        others = sum(
            other.queue.expected_seconds
            for other in self._waiting.values()
            if other is not lane and other.priority <= lane.priority
        )
        for worker in self._workers:
            left = 0.0 if worker.lost else max(0.0, worker.busy_until - now)
            if worker.lane is lane:
                own += left
            else:
                others += left
        at_once = min(lane.queue.most_at_once, self._most_in_progress(lane))
        return own / at_once + others / self._num_threads

    def _withdraw(self, lane: Lane, ticket: int) -> Sequence[Any]:
        with self._lock:
            withdrawn = lane.queue.withdraw(ticket)
            if self._ready_at(lane) > self._clock.monotonic():
                lane.announced = False  # the thread that was woken will find nothing
            if lane.queue.is_empty:
                self._waiting.pop(lane.number, None)
                self._forget_if_drained(lane)
        return withdrawn

    def _end(self, lane: Lane) -> None:
        with self._lock:
            lane.queue.end()
            self._forget_if_drained(lane)
            helper = self._helper_for(self._ready_at(lane), self._clock.monotonic())
        _wake(helper)

    def _close(self, lane: Lane) -> None:
        self._end(lane)
        lane.drained.wait()

    def _take(self, now: float) -> tuple[tuple[Lane, Batch[Any]] | None, _Worker | None]:
        """The next batch and its queue, if one is ready; and who has to look after the others."""
        for lane in self._turns.order(self._waiting.values(), now):
            lane.announced = False
            if self._ready_at(lane) > now:
                continue
            self._turns.taken(lane, now)
            batch = lane.queue.take(now)
            assert batch is not None  # it was ready
            lane.in_progress += 1
            lane.share.in_progress += 1
            if lane.queue.is_empty:
                del self._waiting[lane.number]
            return (lane, batch), self._helper_for(self._first_ready_at(), now)
        return None, None

    def _is_held(self, lane: Lane) -> bool:
        """Whether the lane's version has as many batches in progress as it may."""
        return lane.share.in_progress >= self._most_in_progress(lane)

    def _most_in_progress(self, lane: Lane) -> int:
        return min(lane.share.most or self._num_threads, self._num_threads)

    def _ready_at(self, lane: Lane) -> float:
        return math.inf if self._is_held(lane) else lane.queue.ready_at

    def _first_ready_at(self) -> float:
        return min(map(self._ready_at, self._waiting.values()), default=math.inf)

    def _process(self, lane: Lane, batch: Batch[Any]) -> None:
        tasks = batch.tasks
        try:
            lane.process(tasks)
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

    def _helper_for(self, ready_at: float, now: float) -> _Worker | None:
        """The sleeping thread that must be woken so that a batch is taken when it is ready.

        None where all are busy, for they look before they sleep, and where the timekeeper will
        wake early enough.
        """
        timed = ready_at > now
        if not self._idle or ready_at == math.inf or (timed and self._timekeeper_until <= ready_at):
            return None
        worker = self._idle[-1]
        self._leave_idle(worker)
        return worker

    def _leave_idle(self, worker: _Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        if worker is self._timekeeper:
            self._timekeeper, self._timekeeper_until = None, math.inf

    def _work(self, worker: _Worker) -> None:
        # One batch a call: what it held is not kept in memory while the thread sleeps.
        while self._work_once(worker):
            pass

    def _work_once(self, worker: _Worker) -> bool:
        """Wait for a batch and process it; False when the thread is to end."""
        while not self.run_once(worker):
            with self._lock:
                if self._stopping or self._surplus() > 0:
                    self._workers.discard(worker)  # others process what cannot be taken now
                    return False
                timeout = self._begin_to_sleep(worker)
            if timeout is None or timeout > 0:
                self._clock.wait(worker.wake, timeout)
            with self._lock:
                self._leave_idle(worker)
        with self._lock:
            worker.rest()
            if self._surplus() <= 0:
                return True
            self._workers.discard(worker)
            # It would have looked after what became ready with the end of its batch.
            helper = self._helper_for(self._first_ready_at(), self._clock.monotonic())
        _wake(helper)
        return False

    def _begin_to_sleep(self, worker: _Worker) -> float | None:
        """Seconds to sleep, None for as long as nobody wakes it; 0 when a batch is ready."""
        now = self._clock.monotonic()
        ready_at = self._first_ready_at()
        if ready_at <= now:
            return 0
        worker.wake.clear()
        self._idle.append(worker)
        if ready_at == math.inf or self._timekeeper_until <= ready_at:
            return None
        self._timekeeper, self._timekeeper_until = worker, ready_at
        return ready_at - now


class _Worker:
    """A batch thread and what wakes it. ``lost``: its batch does not come back."""

    __slots__ = ("busy_since", "busy_until", "lane", "lost", "number", "thread", "wake")

    def __init__(self, number: int, work: Callable[[_Worker], None], name: str) -> None:
        self.number = number
        self.wake = threading.Event()
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)
        self.rest()

    def busy(self, lane: Lane, batch: Batch[Any], now: float) -> None:
        self.lane: Lane | None = lane
        self.busy_since = now
        self.busy_until = now + lane.queue.expected_run(batch.size)

    def rest(self) -> None:
        self.lane = None
        self.busy_since = math.inf
        self.busy_until = -math.inf
        self.lost = False


def _wake(worker: _Worker | None) -> None:
    if worker is not None:
        worker.wake.set()
