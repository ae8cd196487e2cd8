"""The rules by which one queue of tasks becomes batches; no threads, no lock, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.batching.batching_options import QueueOptions
from serving.core.errors import InvalidArgument, Unavailable

T = TypeVar("T")

Split = Callable[[T, Sequence[int]], Sequence[T]]
"""Cuts a task into tasks of these sizes, which sum up to its own."""

_FULL = "The batch scheduling queue to which this task was submitted is full"


@dataclass(slots=True)
class Batch(Generic[T]):
    """Tasks to be processed at once; ``size`` is the sum of theirs."""

    tasks: list[T] = field(default_factory=list)
    size: int = 0


class BatchQueue(Generic[T]):
    """A queue of batches of which only the last is open to more tasks. Not thread-safe.

    Times are seconds on any one clock. ``split`` is called only with large batch splitting.
    """

    def __init__(self, options: QueueOptions, split: Split[T]) -> None:
        self._options = options
        self._split = split
        self._timeout_seconds = options.batch_timeout_micros / 1e6
        self._max_enqueued_batches = max(1, options.max_enqueued_batches)
        self._limit = options.execution_limit
        self._closed: deque[Batch[T]] = deque()
        self._open: Batch[T] = Batch()
        self._open_since = 0.0
        self._ending = False

    def add(self, task: T, size: int, now: float) -> None:
        """Put the task into the open batch, or into a new one where it does not fit.

        Raises InvalidArgument for a task larger than ``max_batch_size``, Unavailable when
        the queue is full or takes no more tasks.
        """
        self._check_capacity(size)
        free = self._limit - self._open.size
        if size <= free or not self._options.enable_large_batch_splitting:
            self._append(task, size, now)
            return
        sizes = self._part_sizes(size, free)
        for part, part_size in zip(self._split(task, sizes), sizes, strict=True):
            self._append(part, part_size, now)

    def take(self, now: float) -> Batch[T] | None:
        """The oldest batch if it may be processed now: closed, full, timed out, or the last."""
        if not self._closed and self.ready_at <= now:
            self._close_batch()
        return self._closed.popleft() if self._closed else None

    @property
    def ready_at(self) -> float:
        """From when on :meth:`take` gives a batch: -inf is always, inf is not without a task."""
        if self._closed:
            return -math.inf
        if not self._open.tasks:
            return math.inf
        if self._ending or self._open.size >= self._limit:
            return -math.inf
        return self._open_since + self._timeout_seconds

    @property
    def is_empty(self) -> bool:
        return not self._closed and not self._open.tasks

    @property
    def is_ending(self) -> bool:
        return self._ending

    def end(self) -> None:
        """Take no more tasks; those that wait do so no longer than for a thread. Idempotent."""
        self._ending = True

    def _append(self, task: T, size: int, now: float) -> None:
        if self._open.size + size > self._limit:
            self._close_batch()
        if not self._open.tasks:
            self._open_since = now
        self._open.tasks.append(task)
        self._open.size += size

    def _close_batch(self) -> None:
        self._closed.append(self._open)
        self._open = Batch()

    def _part_sizes(self, size: int, free: int) -> list[int]:
        """What fits into the open batch, then as many whole batches as there are, and the rest."""
        whole, rest = divmod(size - free, self._limit)
        return [part for part in (free, *[self._limit] * whole, rest) if part]

    def _check_capacity(self, size: int) -> None:
        if self._ending:
            raise Unavailable("The batch scheduling queue takes no more tasks")
        if size > self._options.max_batch_size:
            raise InvalidArgument(
                f"Task size {size} is larger than maximum input batch size "
                f"{self._options.max_batch_size}"
            )
        enqueued = len(self._closed) + 1
        if self._options.enable_large_batch_splitting:
            self._check_free_rows(size, enqueued)
        elif self._open.size + size > self._limit and enqueued >= self._max_enqueued_batches:
            raise Unavailable(
                f"{_FULL}; currently {enqueued} batches enqueued and max_enqueued_batches is "
                f"{self._max_enqueued_batches}"
            )

    def _check_free_rows(self, size: int, enqueued: int) -> None:
        capacity = (self._max_enqueued_batches - enqueued + 1) * self._limit - self._open.size
        if size > capacity:
            raise Unavailable(
                f"{_FULL}; task size is {size} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={enqueued}, "
                f"max_enqueued_batches={self._max_enqueued_batches}, "
                f"open_batch_size={self._open.size}, max_execution_batch_size={self._limit})"
            )
