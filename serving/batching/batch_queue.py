"""The rules by which one queue of tasks becomes batches; no threads, no lock, no clock."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from serving.batching.batching_options import QueueOptions
from serving.batching.run_times import RunTimes
from serving.core.errors import InvalidArgument, Unavailable

T = TypeVar("T")

Split = Callable[[T, Sequence[int]], Sequence[T]]
"""Cuts a task into tasks of these sizes, which sum up to its own."""

FULL = "The batch scheduling queue to which this task was submitted is full"


class Batch(Generic[T]):
    """Tasks to be processed at once. Not thread-safe.

    ``size`` is the sum of theirs, ``since`` when the first came, ``until`` the first deadline.
    ``succeeded``: whether it was run, and what that took says something of the next.
    """

    __slots__ = ("_tasks", "last_ticket", "since", "size", "succeeded", "until")

    def __init__(self) -> None:
        self._tasks: dict[int, tuple[T, int]] = {}  # by ticket
        self.succeeded = True
        self.last_ticket = -1
        self.size = 0
        self.since = math.inf
        self.until = math.inf

    def add(self, entry: Entry[T], now: float) -> None:
        if not self._tasks:
            self.since = now
            self.until = entry.deadline
        self._tasks[entry.ticket] = entry.task, entry.size
        self.last_ticket = entry.ticket
        self.size += entry.size
        self.until = min(self.until, entry.deadline)

    def remove(self, ticket: int) -> list[T]:
        """Take a task out; empty when it is not in here. ``until`` stays as it was."""
        if ticket not in self._tasks:
            return []
        task, size = self._tasks.pop(ticket)
        self.size -= size
        return [task]

    @property
    def tasks(self) -> list[T]:
        """In the order in which they came."""
        return [task for task, _ in self._tasks.values()]

    def __len__(self) -> int:
        """How many tasks."""
        return len(self._tasks)


class Entry(NamedTuple, Generic[T]):
    """A task on its way into a queue. ``ticket``: its number, larger than those before it."""

    ticket: int
    task: T
    size: int
    deadline: float = math.inf


def check_task(size: int, options: QueueOptions, *, ending: bool) -> None:
    """Raise what any queue raises for a task of this size, however full it is."""
    if ending:
        raise Unavailable("The batch scheduling queue takes no more tasks")
    if size > options.max_batch_size:
        raise InvalidArgument(
            f"Task size {size} is larger than maximum input batch size {options.max_batch_size}"
        )


class Ahead(NamedTuple):
    """What a task would find in a queue.

    ``seconds``: how long the batches before its own will run. ``rows``: of its own, with it.
    """

    seconds: float
    rows: int


def batches_of(rows: int, limit: int) -> tuple[int, int]:
    """How many batches of ``limit`` rows go before the last, and the rows of that."""
    whole = max(0, math.ceil(rows / limit) - 1)
    return whole, rows - whole * limit


class TaskQueue(Protocol[T]):
    """The rules by which one queue's tasks become batches. Not thread-safe; no time of its own.

    Times are seconds on any one clock.
    """

    def check_accepts(self, size: int) -> None:
        """Raise what :meth:`add` raises for a task of this size, however little is here."""

    def add(self, entry: Entry[T], now: float) -> None:
        """Raises InvalidArgument for a task that is too large, Unavailable when the queue is full
        or takes no more tasks.
        """

    def withdraw(self, ticket: int) -> Sequence[T]:
        """Give back the task, or what is here still of its parts; empty when all is taken."""

    def take(self, now: float) -> Batch[T]:
        """The next batch. Only from :attr:`ready_at` on."""

    def processed(self, batch: Batch[T], now: float) -> None:
        """Hear that a batch taken from here is done."""

    def end(self) -> None:
        """Take no more tasks; those that wait do so no longer than for a thread. Idempotent."""

    @property
    def rows(self) -> int:
        """Of all tasks that wait here."""

    @property
    def ready_at(self) -> float:
        """From when on :meth:`take` gives a batch: -inf is always, inf is not without a task."""

    @property
    def oldest_since(self) -> float:
        """Since when the task waits that is taken next; inf without one."""

    @property
    def expected_seconds(self) -> float:
        """How long all that waits here will run, as far as is known."""

    def ahead(self, size: int) -> Ahead:
        """What a task of this size would find here; the last of its parts where it is split."""

    @property
    def most_at_once(self) -> float:
        """How many of its batches may run at the same time; inf for any number."""

    def expected_run(self, size: int) -> float:
        """Seconds that a batch of this size will run, or one of the largest that was ever run; 0
        while nothing is known.
        """

    @property
    def is_empty(self) -> bool: ...

    @property
    def is_ending(self) -> bool: ...


class BatchQueue(Generic[T]):
    """A queue of batches of which only the last is open to more tasks: TensorFlow Serving's rules.

    A :class:`TaskQueue`. ``split`` is called only with large batch splitting.
    """

    def __init__(self, options: QueueOptions, split: Split[T], run_times: RunTimes) -> None:
        """``run_times`` are looked at only where the options have deadlines minded."""
        self._options = options
        self._split = split
        self._run_times = run_times
        self._timeout_seconds = options.batch_timeout_micros / 1e6
        self._max_enqueued_batches = max(1, options.max_enqueued_batches)
        self._limit = options.execution_limit
        self._closed: deque[Batch[T]] = deque()
        self._open: Batch[T] = Batch()
        self._ending = False

    def check_accepts(self, size: int) -> None:
        check_task(size, self._options, ending=self._ending)

    def add(self, entry: Entry[T], now: float) -> None:
        """Put the task into the open batch, or into a new one where it does not fit."""
        size = entry.size
        self.check_accepts(size)
        if self._fits(size):
            self._open.add(entry, now)
            return
        self._check_capacity(size)
        free = self._free_rows
        if size <= free or not self._options.enable_large_batch_splitting:
            self._append(entry, now)
            return
        sizes = self._part_sizes(size, free)
        for part, part_size in zip(self._split(entry.task, sizes), sizes, strict=True):
            self._append(entry._replace(task=part, size=part_size), now)

    def withdraw(self, ticket: int) -> Sequence[T]:
        tasks = []
        first = last = bisect_left(self._closed, ticket, key=lambda batch: batch.last_ticket)
        while last < len(self._closed) and (found := self._closed[last].remove(ticket)):
            tasks += found  # the parts of one task lie in one batch after the other
            last += 1
        for index in reversed(range(first, last)):
            if not self._closed[index]:
                del self._closed[index]
        return tasks + self._open.remove(ticket)

    def take(self, now: float) -> Batch[T]:  # noqa: ARG002  # what is ready stays so
        """The oldest batch, which is closed, full, timed out, or the last."""
        if not self._closed:
            self._close_batch()
        return self._closed.popleft()

    def processed(self, batch: Batch[T], now: float) -> None:
        """Nothing here depends on it."""

    @property
    def rows(self) -> int:
        return sum(batch.size for batch in self._closed) + self._open.size

    @property
    def ready_at(self) -> float:
        if self._closed:
            return -math.inf
        if not self._open:
            return math.inf
        if self._ending or self._free_rows == 0:
            return -math.inf
        timeout_at = self._open.since + self._timeout_seconds
        if self._options.deadline_aware:
            return min(timeout_at, self._run_times.latest_start(self._open.until, self._open.size))
        return timeout_at

    @property
    def oldest_since(self) -> float:
        if self._closed:
            return self._closed[0].since
        return self._open.since if self._open else math.inf

    @property
    def expected_seconds(self) -> float:
        full = len(self._closed) * self._run_times.known(self._limit)
        return full + (self._run_times.known(self._open.size) if self._open else 0.0)

    def ahead(self, size: int) -> Ahead:
        before = len(self._closed) * self._run_times.known(self._limit)
        if self._fits(size) or self._options.enable_large_batch_splitting:
            whole, rows = batches_of(self._open.size + size, self._limit)
            return Ahead(before + whole * self._run_times.known(self._limit), rows)
        return Ahead(before + self._run_times.known(self._open.size), size)

    @property
    def most_at_once(self) -> float:
        return math.inf

    def expected_run(self, size: int) -> float:
        return self._run_times.known(size)

    @property
    def is_empty(self) -> bool:
        return not self._closed and not self._open

    @property
    def is_ending(self) -> bool:
        return self._ending

    def end(self) -> None:
        self._ending = True

    @property
    def _free_rows(self) -> int:
        """What fits into the open batch, which is full of tasks, too, when they are as many as it
        may have rows: otherwise those without rows would make batches without bound.
        """
        return self._limit - self._open.size if len(self._open) < self._limit else 0

    def _fits(self, size: int) -> bool:
        return self._open.size + size <= self._limit and len(self._open) < self._limit

    def _append(self, entry: Entry[T], now: float) -> None:
        if not self._fits(entry.size):
            self._close_batch()
        self._open.add(entry, now)

    def _close_batch(self) -> None:
        self._closed.append(self._open)
        self._open = Batch()

    def _part_sizes(self, size: int, free: int) -> list[int]:
        """What fits into the open batch, then as many whole batches as there are, and the rest."""
        whole, rest = divmod(size - free, self._limit)
        return [part for part in (free, *[self._limit] * whole, rest) if part]

    def _check_capacity(self, size: int) -> None:
        """Of what does not fit into the open batch."""
        enqueued = len(self._closed) + 1
        if self._options.enable_large_batch_splitting:
            self._check_free_rows(size, enqueued)
        elif enqueued >= self._max_enqueued_batches:
            raise Unavailable(
                f"{FULL}; currently {enqueued} batches enqueued and max_enqueued_batches is "
                f"{self._max_enqueued_batches}"
            )

    def _check_free_rows(self, size: int, enqueued: int) -> None:
        more_batches = self._max_enqueued_batches - enqueued
        capacity = more_batches * self._limit + self._free_rows
        if size > capacity or not more_batches:
            raise Unavailable(
                f"{FULL}; task size is {size} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={enqueued}, "
                f"max_enqueued_batches={self._max_enqueued_batches}, "
                f"open_batch_size={self._open.size}, max_execution_batch_size={self._limit})"
            )
