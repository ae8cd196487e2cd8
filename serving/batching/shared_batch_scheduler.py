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

from serving.batching.batch_queue import Batch, BatchQueue, Split
from serving.batching.batching_options import QueueOptions, SchedulerOptions
from serving.core.clock import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

Process = Callable[[Sequence[T]], None]
"""Does the work of one batch; called on a batch thread, which it may hold."""


@dataclass(frozen=True, slots=True)
class SharedQueue(Generic[T]):
    """One queue of a scheduler, for those who put tasks into it. Thread-safe.

    ``enqueue(task, size)`` has the task processed in some batch and returns at once; it raises
    InvalidArgument for a task that is too large, Unavailable when the queue is full or closed.
    ``close()`` takes no more tasks and returns when those enqueued are processed; idempotent.
    """

    enqueue: Callable[[T, int], None]
    close: Callable[[], None]


class SharedBatchScheduler:
    """Takes batches from its queues in turn, one each, and processes them on its threads.

    What tasks are is the queues' users' business. Threads sleep until a batch is ready, and at
    most one of them, the timekeeper, until the first open batch times out. Without
    :meth:`start` there are no threads, and :meth:`run_once` does their work. Thread-safe.
    """

    def __init__(self, options: SchedulerOptions, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._queues: dict[int, _Lane] = {}
        self._waiting: dict[int, _Lane] = {}  # those of them that hold tasks
        self._last_number = -1
        self._idle: list[_Worker] = []
        self._timekeeper: _Worker | None = None
        self._timekeeper_until = math.inf
        self._stopping = False
        self._workers = [
            _Worker(self._work, f"{options.thread_pool_name}_{index}")
            for index in range(options.num_batch_threads)
        ]

    def start(self) -> None:
        """Start the threads, once."""
        for worker in self._workers:
            worker.thread.start()

    def stop(self) -> None:
        """End all queues, process what they hold, and end the threads. Idempotent."""
        with self._lock:
            self._stopping = True
            for lane in self._queues.values():
                lane.queue.end()
            self._idle.clear()
        for worker in self._workers:
            worker.wake.set()
        for worker in self._workers:
            if worker.thread.is_alive():
                worker.thread.join()
        while self.run_once():
            pass

    def add_queue(
        self, options: QueueOptions, process: Process[T], split: Split[T]
    ) -> SharedQueue[T]:
        """A new queue, last in turn. ``split`` cuts tasks where the options allow that."""
        lane = _Lane(next(self._numbers), BatchQueue(options, split), process)
        with self._lock:
            self._queues[lane.number] = lane
            if self._stopping:
                lane.queue.end()
        return SharedQueue(partial(self._enqueue, lane), partial(self._close, lane))

    def run_once(self) -> bool:
        """Process the next batch on the calling thread; False when none is ready."""
        with self._lock:
            taken, helper = self._take(self._clock.monotonic())
        _wake(helper)
        if taken is None:
            return False
        self._process(*taken)
        return True

    def _enqueue(self, lane: _Lane, task: Any, size: int) -> None:
        now = self._clock.monotonic()
        with self._lock:
            lane.queue.add(task, size, now)
            self._waiting[lane.number] = lane
            ready_at = lane.queue.ready_at
            helper = None
            if ready_at > now or not lane.announced:
                helper = self._helper_for(ready_at, now)
                lane.announced = ready_at <= now and helper is not None
        _wake(helper)

    def _close(self, lane: _Lane) -> None:
        with self._lock:
            lane.queue.end()
            self._forget_if_drained(lane)
            helper = self._helper_for(lane.queue.ready_at, self._clock.monotonic())
        _wake(helper)
        lane.drained.wait()

    def _take(self, now: float) -> tuple[tuple[_Lane, Batch[Any]] | None, _Worker | None]:
        """The next batch and its queue, if one is ready; and who has to look after the others."""
        for lane in self._in_turn():
            batch = lane.queue.take(now)
            if batch is None:
                continue
            lane.in_progress += 1
            lane.announced = False
            if lane.queue.is_empty:
                del self._waiting[lane.number]
            self._last_number = lane.number
            return (lane, batch), self._helper_for(self._first_ready_at(), now)
        return None, None

    def _in_turn(self) -> list[_Lane]:
        """The queues that hold tasks, by age, beginning after the one that had its turn."""
        lanes = list(self._waiting.values())
        if len(lanes) > 1:
            lanes.sort(key=lambda lane: (lane.number <= self._last_number, lane.number))
        return lanes

    def _first_ready_at(self) -> float:
        return min((lane.queue.ready_at for lane in self._waiting.values()), default=math.inf)

    def _process(self, lane: _Lane, batch: Batch[Any]) -> None:
        try:
            lane.process(batch.tasks)
        except Exception:
            log.exception("a batch of %d tasks was not processed", len(batch.tasks))
        finally:
            with self._lock:
                lane.in_progress -= 1
                self._forget_if_drained(lane)

    def _forget_if_drained(self, lane: _Lane) -> None:
        if lane.queue.is_ending and lane.queue.is_empty and not lane.in_progress:
            self._queues.pop(lane.number, None)
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
        """Wait for a batch and process it; False when there will be none."""
        while not self.run_once():
            with self._lock:
                if self._stopping and not self._waiting:
                    return False
                timeout = self._begin_to_sleep(worker)
            if timeout is None or timeout > 0:
                self._clock.wait(worker.wake, timeout)
            with self._lock:
                self._leave_idle(worker)
        return True

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


class _Lane:
    """What the scheduler keeps for one queue."""

    __slots__ = ("announced", "drained", "in_progress", "number", "process", "queue")

    def __init__(self, number: int, queue: BatchQueue[Any], process: Process[Any]) -> None:
        self.number = number
        self.queue = queue
        self.process = process
        self.in_progress = 0
        self.announced = False  # a thread was woken for the batch that is ready now
        self.drained = threading.Event()


class _Worker:
    """A batch thread and what wakes it."""

    __slots__ = ("thread", "wake")

    def __init__(self, work: Callable[[_Worker], None], name: str) -> None:
        self.wake = threading.Event()
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)


def _wake(worker: _Worker | None) -> None:
    if worker is not None:
        worker.wake.set()
