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
    """Of the requests answered in the second half of the time."""

    rate: float
    p50_seconds: float
    p99_seconds: float
    batch_size: float


class Simulation:
    """Runs single-row requests; ``run_seconds`` tells how long a batch of so many rows takes.

    Runs vary by some percent, and answers take about ``client_seconds`` until the same client's
    next request is there. There are so many ``threads``; more batches at once than ``processors``
    take longer in proportion.
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
        self._running: list[tuple[float, int, Batch[tuple[float, int]], float]] = []
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
            done = self._running[0][0] if self._running else math.inf
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
        batch = self._queue.take(now)
        takes = self._run_seconds(batch.size) * (1 + 0.1 * abs(self._random.gauss(0, 1)))
        takes *= max(1, (len(self._running) + 1) / self._processors)
        heappush(self._running, (now + takes, next(self._count), batch, takes))

    def _end_of_run(self, now: float, counted_from: float, client_seconds: float) -> None:
        _, _, batch, took = heappop(self._running)
        self._run_times.learn(batch.size, took)
        self._queue.processed(batch, now)
        if now > counted_from:
            self._sizes.append(batch.size)
            self._waits.extend(now - since for since, _ in batch.tasks)
        for _, client in batch.tasks:
            if client >= 0:
                again = now + client_seconds * self._random.uniform(0.5, 1.5)
                heappush(self._arrivals, (again, client))
