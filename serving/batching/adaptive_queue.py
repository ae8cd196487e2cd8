"""A queue whose batches are as large, and wait as long, as measured run times make worth while."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from serving.batching.adaptive_setting import AdaptiveSetting
from serving.batching.batch_queue import FULL, Ahead, Batch, Entry, Split, batches_of, check_task
from serving.batching.batches_in_progress import BatchesInProgress
from serving.batching.batching_options import BatchingOptions
from serving.batching.run_times import RunTimes
from serving.core.errors import Unavailable

T = TypeVar("T")

_LATEST_BATCHES = 16
_FIRST_SHARE_TO_WAIT = 0.25
_LARGEST_SHARE_TO_WAIT = 0.5
_SMALLEST_SHARE_TO_WAIT = 1 / 64
_FEWEST_BATCHES_BETWEEN_LONG_WAITS = 8
_MOST_BATCHES_BETWEEN_LONG_WAITS = 256
_LEAST_SECONDS_TO_WAIT = 50e-6
"""What it costs to wake a thread at a certain time."""


class AdaptiveQueue(Generic[T]):
    """Tasks in one row; how many make a batch is decided when a thread is there to run it.

    A :class:`~serving.batching.batch_queue.TaskQueue`. As many batches run at once as bring the
    most rows a second, and what comes meanwhile makes up the next. It waits for its share of as
    many tasks as were there lately, but only for a share of the time that it will run: one that
    grows while waiting pays, in rows a second, and shrinks while it does not.
    """

    def __init__(
        self,
        options: BatchingOptions,
        split: Split[T],
        run_times: RunTimes,
        instances: int = 1,
        most_at_once: Callable[[], int] = lambda: 1,
    ) -> None:
        """``split`` is called only with large batch splitting. Tasks wait for others no longer than
        the options admit any wait.

        The servable has so many ``instances``, of which none is left idle, and ``most_at_once``
        tells how many batches of the queue could be in progress.
        """
        self._options = options.queue
        admission = options.admission
        self._longest_wait = admission.max_wait_seconds if admission is not None else math.inf
        self._split = split
        self._run_times = run_times
        self._capacity = max(1, self._options.max_enqueued_batches) * self._options.max_batch_size
        self._setting = AdaptiveSetting(options.sizes_to_choose_from, instances, most_at_once)
        self._waiting: dict[int, _Waiting[T]] = {}  # by ticket, in the order of arrival
        self._rows = 0
        self._until = math.inf
        self._running = BatchesInProgress()
        self._peak = 0  # most rows that waited or ran since the latest batch was taken
        self._peaks: deque[int] = deque(maxlen=_LATEST_BATCHES)
        self._most_lately = 0
        self._share_to_wait = _FIRST_SHARE_TO_WAIT
        self._between_long_waits = _FEWEST_BATCHES_BETWEEN_LONG_WAITS
        self._until_long_wait = self._between_long_waits
        self._free_since = -math.inf
        self._rows_when_free = 0
        self._ending = False

    def check_accepts(self, size: int) -> None:
        check_task(size, self._options, ending=self._ending)

    def add(self, entry: Entry[T], now: float) -> None:
        self._check_capacity(entry.size)
        self._waiting[entry.ticket] = _Waiting(self._parts(entry), now)
        self._rows += entry.size
        self._peak = max(self._peak, self._rows + self._running.rows)
        self._until = min(self._until, entry.deadline) if len(self._waiting) > 1 else entry.deadline

    def withdraw(self, ticket: int) -> Sequence[T]:
        if ticket not in self._waiting:
            return []
        parts, _ = self._waiting.pop(ticket)
        self._rows -= sum(entry.size for entry in parts)
        return [entry.task for entry in parts]

    def take(self, now: float) -> Batch[T]:
        """As many of the oldest tasks as make a batch of the size in force, at least one."""
        self._judge_the_wait(now)
        self._count_to_long_wait()
        self._peaks.append(self._peak)
        self._most_lately = max(self._peaks)
        batch: Batch[T] = Batch()
        for (entry, *rest), since in self._fitting():
            batch.add(entry, since)
            if rest:
                self._waiting[entry.ticket] = _Waiting(rest, since)  # still the first
            else:
                del self._waiting[entry.ticket]
        self._rows -= batch.size
        if self._options.deadline_aware:
            deadlines = (parts[0].deadline for parts, _ in self._waiting.values())
            self._until = min(deadlines, default=math.inf)
        self._running.begin(batch, self._setting.in_force, now)
        self._peak = self._rows + self._running.rows
        return batch

    def processed(self, batch: Batch[T], now: float) -> None:
        if self._running.count >= self._setting.at_once:  # else there has been room for longer
            self._free_since = now
            self._rows_when_free = self._rows
        ran = self._running.end(batch, now)
        if ran is not None and batch.succeeded and batch.size:
            self._setting.ran(len(batch), batch.size, ran.at_once, ran.seconds)
        self._setting.choose(max(self._peak, self._most_lately), self._running.count)

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def ready_at(self) -> float:
        if not self._waiting:
            return math.inf
        if self._ending:
            return -math.inf
        if self._running.count >= self.most_at_once:
            return math.inf
        wait = self._seconds_to_wait()
        if not wait:
            return -math.inf
        ready_at = min(self._wait_began() + wait, self.oldest_since + self._longest_wait)
        if self._options.deadline_aware:
            ready_at = min(ready_at, self._run_times.latest_start(self._until, self._rows))
        return ready_at

    @property
    def oldest_since(self) -> float:
        return next((since for _, since in self._waiting.values()), math.inf)

    @property
    def expected_seconds(self) -> float:
        whole, rest = divmod(self._rows, self._setting.limit)
        seconds = whole * self._run_times.expected(self._setting.limit)
        return seconds + self._run_times.expected(rest) if rest else seconds

    def ahead(self, size: int) -> Ahead:
        limit, largest = self._setting.limit, self._options.execution_limit
        parts, rows = batches_of(size, largest)  # which are batches of their own but for the last
        if parts or rows > limit:
            whole = math.ceil(self._rows / limit)
        else:
            whole, rows = batches_of(self._rows + rows, limit)
        known = self._run_times.known
        return Ahead(whole * known(limit) + parts * known(largest), rows)

    @property
    def most_at_once(self) -> float:
        return self._setting.at_once

    def best_rate(self) -> float:
        """The most rows a second that batches have brought, so far as is known; else 0."""
        return self._setting.best_rate

    def expected_run(self, size: int) -> float:
        return self._run_times.known(size)

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    @property
    def is_ending(self) -> bool:
        return self._ending

    def end(self) -> None:
        self._ending = True

    def _fitting(self) -> list[_Waiting[T]]:
        """The oldest tasks that together are no larger than a batch should be; at least one.

        Nor are they more than it may have rows: tasks without rows would be without bound.
        """
        limit = self._share_of(self._rows + self._running.rows)
        rows = count = 0
        for parts, _ in islice(self._waiting.values(), self._options.execution_limit):
            rows += parts[0].size
            if count and rows > limit:
                break
            count += 1
        return list(islice(self._waiting.values(), count))

    def _seconds_to_wait(self) -> float:
        """For a batch as large as there were tasks lately; 0 where it is, or nothing is known."""
        enough = self._share_of(self._most_lately)
        if self._rows >= enough:
            return 0.0
        seconds = self._share_now * self._run_times.expected(enough)
        return seconds if seconds >= _LEAST_SECONDS_TO_WAIT else 0.0

    def _share_of(self, rows: int) -> int:
        """The rows of a batch when so many are for as many batches as there should be."""
        at_once = self._setting.at_once
        if at_once == math.inf:
            return self._setting.limit
        return min(self._setting.limit, math.ceil(rows / at_once))

    def _wait_began(self) -> float:
        return max(self.oldest_since, self._free_since)

    def _judge_the_wait(self, now: float) -> None:
        """Compare rows a second with what they would have been without the wait that ends now."""
        began = self._wait_began()
        rows = self._rows_when_free if began == self._free_since else self._first_rows()
        if now <= began or not rows or self._ending:
            return
        at_once = rows / max(self._run_times.expected(rows), 1e-9)
        waited = self._rows / (now - began + self._run_times.expected(self._rows))
        if waited > at_once:
            self._share_to_wait = min(_LARGEST_SHARE_TO_WAIT, self._share_now * 1.25)
        else:
            self._share_to_wait = max(_SMALLEST_SHARE_TO_WAIT, self._share_to_wait / 2)

    @property
    def _share_now(self) -> float:
        """The share in force, or a larger one where that is tried."""
        if self._until_long_wait > 0 and not self._setting.is_trial:
            return self._share_to_wait
        return max(self._share_to_wait, _FIRST_SHARE_TO_WAIT)

    def _count_to_long_wait(self) -> None:
        """A wait that is too short never pays; so a longer one is tried, ever more rarely."""
        self._until_long_wait -= 1
        if self._until_long_wait < 0:
            most = _MOST_BATCHES_BETWEEN_LONG_WAITS
            self._between_long_waits = min(2 * self._between_long_waits, most)
            self._until_long_wait = self._between_long_waits

    def _first_rows(self) -> int:
        return next((parts[0].size for parts, _ in self._waiting.values()), 0)

    def _parts(self, entry: Entry[T]) -> Sequence[Entry[T]]:
        """Of a task that may be spread over batches, those that go into one each."""
        limit = self._options.execution_limit
        if entry.size <= limit:
            return [entry]
        whole, rest = divmod(entry.size, limit)
        sizes = [limit] * whole + [rest] * bool(rest)
        tasks = self._split(entry.task, sizes)
        return [
            entry._replace(task=task, size=size) for task, size in zip(tasks, sizes, strict=True)
        ]

    def _check_capacity(self, size: int) -> None:
        self.check_accepts(size)
        if self._rows + size > self._capacity:
            raise Unavailable(
                f"{FULL}; currently {self._rows} rows enqueued and the capacity is {self._capacity}"
            )
        if len(self._waiting) >= self._capacity:
            raise Unavailable(f"{FULL}; currently {len(self._waiting)} tasks enqueued")


class _Waiting(NamedTuple, Generic[T]):
    """What is here of a task, since ``since``: all of it, or the parts of it that were not taken.

    No two parts make a batch: the first of two is as large as a batch may be.
    """

    parts: Sequence[Entry[T]]
    since: float
