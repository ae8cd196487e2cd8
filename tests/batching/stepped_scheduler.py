"""A scheduler with its threads, or with none of its own, and queues for it."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from waiting import WAIT_SECONDS

from serving.batching.batch_queue import BatchQueue, Split
from serving.batching.batching_options import (
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.lane import Place
from serving.batching.run_times import RunTimes
from serving.batching.shared_batch_scheduler import Process, SharedBatchScheduler, SharedQueue
from serving.core.clock import Clock
from serving.testing import FakeClock

Rows = tuple[int, int, int]
"""A task of the simulation: its number, and its rows from … to."""


NEVER = math.inf
_POOL_NUMBERS = itertools.count()


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
    options = SchedulerOptions(count, hung_batch_seconds=30, thread_pool_name=new_pool_name())
    scheduler = SharedBatchScheduler(options, clock)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()


def new_pool_name() -> str:
    """One that no other scheduler of this process has."""
    return f"pool_{next(_POOL_NUMBERS)}"


def num_threads(scheduler: SharedBatchScheduler) -> int:
    """How many it has, its watch with them; others' may still be ending beside them.

    Its pool's name must be its alone.
    """
    prefix = f"{scheduler._options.thread_pool_name}_"
    return sum(thread.name.startswith(prefix) for thread in threading.enumerate())


def stepped(clock: Clock | None = None) -> SharedBatchScheduler:
    return SharedBatchScheduler(SchedulerOptions(1), clock or FakeClock())


def step_all(scheduler: SharedBatchScheduler) -> None:
    while scheduler.run_once():
        pass


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
