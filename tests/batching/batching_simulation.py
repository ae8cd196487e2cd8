"""A queue, threads that run its batches and clients, in simulated time: no thread, no clock."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from statistics import mean

from serving.batching.batch_queue import Batch, Entry, TaskQueue
from serving.batching.run_times import RunTimes


@dataclass(frozen=True)
class Outcome:
    """Of the requests whose runs began and ended in the second half of the time."""

    rate: float
    p50_seconds: float
    p99_seconds: float
    batch_size: float


class Simulation:
    """Runs single-row requests; ``run_seconds`` tells how long a batch of so many rows takes.

    Runs vary by some percent, and answers take about ``client_seconds`` until the same client's
    next request is there. There are so many ``threads``; where more batches run at once than there
    are ``processors``, they share them.
    """

    def __init__(
        self,
        make_queue: Callable[[RunTimes], TaskQueue[tuple[float, int]]],
        run_seconds: Callable[[int], float],
        threads: int = 1,
        processors: int = 1,
    ) -> None:
        self._run_times = RunTimes()
        self._queue = make_queue(self._run_times)
        self._run_seconds = run_seconds
        self._random = random.Random(7)
        self._count = itertools.count()
        self._arrivals: list[tuple[float, int]] = []
        self._threads = threads
        self._processors = processors
        self._running: list[_Run] = []
        self._worked_until = 0.0
        self._waits: list[float] = []
        self._sizes: list[int] = []

    def closed_loop(self, clients: int, seconds: float, client_seconds: float = 0.001) -> Outcome:
        """So many clients, each of which sends its next request when it has its answer."""
        self._arrivals = [
            (self._random.random() * client_seconds, client) for client in range(clients)
        ]
        return self._run(seconds, client_seconds)

    def open_loop(self, rate: float, seconds: float) -> Outcome:
        """Requests that come at random, whatever becomes of those before."""
        now = 0.0
        while now < seconds:
            now += self._random.expovariate(rate)
            self._arrivals.append((now, -1))
        return self._run(seconds, 0)

    def _run(self, seconds: float, client_seconds: float) -> Outcome:
        heapify(self._arrivals)
        now = 0.0
        while now < seconds:
            arrival = self._arrivals[0][0] if self._arrivals else seconds
            done = self._next_end()
            idle = len(self._running) < self._threads
            begin = max(now, self._queue.ready_at) if idle else math.inf
            if arrival <= min(done, begin):
                now, client = arrival, heappop(self._arrivals)[1] if self._arrivals else -1
                if now < seconds:
                    self._queue.add(Entry(next(self._count), (now, client), 1), now)
            elif done <= begin:
                now = done
                self._end_of_run(now, seconds / 2, client_seconds)
            else:
                now = begin
                self._begin_run(now)
        waits = sorted(self._waits)
        return Outcome(
            len(waits) / (seconds / 2),
            waits[len(waits) // 2],
            waits[len(waits) * 99 // 100],
            mean(self._sizes),
        )

    def _begin_run(self, now: float) -> None:
        self._work(now)
        batch = self._queue.take(now)
        work = self._run_seconds(batch.size) * (1 + 0.1 * abs(self._random.gauss(0, 1)))
        self._running.append(_Run(work, now, batch))

    def _end_of_run(self, now: float, counted_from: float, client_seconds: float) -> None:
        self._work(now)
        run = min(self._running, key=lambda run: run.work)
        self._running.remove(run)
        self._run_times.learn(run.batch.size, now - run.began)
        self._queue.processed(run.batch, now)
        if run.began > counted_from:
            self._sizes.append(run.batch.size)
            self._waits.extend(now - since for since, _ in run.batch.tasks)
        for _, client in run.batch.tasks:
            if client >= 0:
                again = now + client_seconds * self._random.uniform(0.5, 1.5)
                heappush(self._arrivals, (again, client))

    def _work(self, now: float) -> None:
        done = (now - self._worked_until) * self._pace
        for run in self._running:
            run.work -= done
        self._worked_until = now

    def _next_end(self) -> float:
        left = min((run.work for run in self._running), default=math.inf)
        return self._worked_until + max(0.0, left) / self._pace

    @property
    def _pace(self) -> float:
        """What of a processor each batch has."""
        return min(1.0, self._processors / max(1, len(self._running)))


@dataclass(eq=False)
class _Run:
    """A batch under way; ``work`` is what is left, in seconds of one processor."""

    work: float
    began: float
    batch: Batch[tuple[float, int]]
