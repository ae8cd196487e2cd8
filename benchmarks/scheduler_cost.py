"""What joining requests into batches and taking them apart costs, without server and model."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.clock import SystemClock
from serving.core.errors import ServingError
from serving.core.servable import Outputs, RunOptions
from serving.testing import FakeServable

THREADS = (1, 4)
BATCH_SIZES = (1, 8, 64)
HEADS = ("threads", "rows per batch", "µs per request", "CPU µs")
_FETCHES = ("y:0",)
_LONG_MICROS = 60_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request of one row, from enqueueing it until it is answered, in µs.

    ``wall_us`` is the time by the clock divided by the number of requests, ``cpu_us`` that of the
    processor; each is the median of the rounds.
    """

    num_threads: int
    batch_size: int
    wall_us: float
    cpu_us: float


def costs(requests: int, rounds: int) -> list[Cost]:
    """For each number of threads that enqueue and each size of batch; rounds take turns."""
    cells = [(threads, size) for threads in THREADS for size in BATCH_SIZES]
    taken: dict[tuple[int, int], list[tuple[float, float]]] = {cell: [] for cell in cells}
    for _ in range(rounds):
        for cell in cells:
            taken[cell].append(_measure(*cell, requests))
    return [
        Cost(*cell, *(statistics.median(times) for times in zip(*taken[cell], strict=True)))
        for cell in cells
    ]


def _measure(num_threads: int, batch_size: int, requests: int) -> tuple[float, float]:
    """µs of a request by the clock and by the processor, with one batch thread.

    Twice as many requests as a batch has are in flight, so that every batch is full.
    """
    echo = FakeServable(lambda feeds: {"y:0": feeds["x:0"]})
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    queue = QueueOptions(batch_size, _LONG_MICROS, max_enqueued_batches=requests)
    servable = BatchingServable(echo, echo, scheduler, BatchingOptions(queue), clock)
    share = requests // (num_threads * batch_size) * batch_size
    tokens: SimpleQueue[None] = SimpleQueue()
    for _ in range(max(2 * batch_size, num_threads)):
        tokens.put(None)

    threads = [
        threading.Thread(target=_produce, args=(servable, share, tokens))
        for _ in range(num_threads)
    ]
    started, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    servable.close()  # returns when all are answered
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    scheduler.stop()
    per = 1e6 / (share * num_threads)
    return wall * per, cpu * per


def _produce(servable: BatchingServable, count: int, tokens: SimpleQueue[None]) -> None:
    """So many runs, each when there is a token, which it gives back when it is done."""
    feeds = {"x:0": np.zeros(1, np.float32)}
    options = RunOptions()

    def done(_result: Outputs | ServingError) -> None:
        tokens.put(None)

    for _ in range(count):
        tokens.get()
        servable.run(feeds, _FETCHES, options, done)


def cells(measured: Sequence[Cost]) -> list[tuple[str, ...]]:
    """As a table shows them."""
    return [
        (str(one.num_threads), str(one.batch_size), f"{one.wall_us:.1f}", f"{one.cpu_us:.1f}")
        for one in measured
    ]
