"""Whole loads in simulated time: untuned, against every setting that one might choose by hand.

The long ones take minutes: ``pytest -m slow tests/batching/test_adaptive_loads.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest
from batching_simulation import Outcome, Simulation

from serving.batching.adaptive_queue import AdaptiveQueue
from serving.batching.batch_queue import BatchQueue, TaskQueue
from serving.batching.batching_options import BatchingOptions, QueueOptions
from serving.batching.run_times import RunTimes

MODELS: dict[str, Callable[[int], float]] = {
    "memory bound until 14 rows": lambda size: max(0.0022, 0.00016 * size) + 0.0003,
    "no gain with two rows, but with four": lambda size: (
        0.005 * max(size, 2) if size < 3 else (0.01 + 0.001 * (size - 3))
    ),
    "the same for every row": lambda size: 0.045 * size,
    "mostly overhead": lambda size: 0.004 + 0.0001 * size,
}
SETTINGS = [(1, 0), (8, 0), (32, 0), (32, 2000), (64, 0), (64, 2000), (64, 5000)]
MACHINES = {"one thread": (1, 1), "four processors": (4, 4), "one processor": (4, 1)}
"""Threads and processors."""

Make = Callable[[RunTimes], TaskQueue[tuple[float, int]]]


def fixed(size: int, timeout: int) -> Make:
    options = QueueOptions(
        max_batch_size=size, batch_timeout_micros=timeout, max_enqueued_batches=10**6
    )
    return partial(BatchQueue, options, lambda task, _: [task])


def adaptive(threads: int) -> Make:
    queue = QueueOptions(max_batch_size=256, max_enqueued_batches=1000)
    options = BatchingOptions(queue, adaptive=True)
    return lambda run_times: AdaptiveQueue(
        options, lambda task, _: [task], run_times, most_at_once=lambda: threads
    )


def closed_loop(make: Make, model: str, machine: str, clients: int) -> Outcome:
    threads, processors = MACHINES[machine]
    run_seconds = MODELS[model]
    simulation = Simulation(make, run_seconds, threads, processors)
    return simulation.closed_loop(clients, 300 * run_seconds(1))


@cache
def best_by_hand(model: str, machine: str, clients: int) -> Outcome:
    """That with the most answers a second."""
    outcomes = (closed_loop(fixed(*one), model, machine, clients) for one in SETTINGS)
    return max(outcomes, key=lambda outcome: outcome.rate)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("clients", [1, 4, 64, pytest.param(16, marks=pytest.mark.slow)])
def test_untuned_it_answers_as_many_as_the_best_setting_by_hand(
    model: str, machine: str, clients: int
):
    """And the slowest answers are no slower, but for the trials, which a short time shows."""
    best = best_by_hand(model, machine, clients)
    untuned = closed_loop(adaptive(MACHINES[machine][0]), model, machine, clients)
    assert untuned.rate >= 0.9 * best.rate
    assert untuned.p99_seconds <= 1.3 * best.p99_seconds


@pytest.mark.slow
@pytest.mark.parametrize("clients", [4, 16, 64])
@pytest.mark.parametrize("machine", MACHINES)
def test_where_batches_bring_nothing_the_slowest_answers_come_as_without_batching(
    machine: str, clients: int
):
    """In the long run, in which there is a trial of every setting beside."""
    threads, processors = MACHINES[machine]

    def outcome(make: Make) -> Outcome:
        return Simulation(make, lambda size: 0.001 * size, threads, processors).closed_loop(
            clients, 10.0
        )

    without, untuned = outcome(fixed(1, 0)), outcome(adaptive(threads))
    assert untuned.rate >= 0.95 * without.rate
    assert untuned.p99_seconds <= 1.1 * without.p99_seconds


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_requests_that_come_at_random_wait_no_longer_than_with_the_best_setting_by_hand(
    model: str, machine: str, share: float
):
    """At a share of the rate that the best setting reaches with 16 clients."""
    threads, processors = MACHINES[machine]
    rate = share * best_by_hand(model, machine, 16).rate

    def outcome(make: Make) -> Outcome:
        seconds = 4000 / rate
        return Simulation(make, MODELS[model], threads, processors).open_loop(rate, seconds)

    best = min((outcome(fixed(*one)) for one in SETTINGS), key=lambda result: result.p99_seconds)
    untuned = outcome(adaptive(threads))
    assert untuned.rate >= 0.9 * best.rate
    assert untuned.p99_seconds <= 1.3 * best.p99_seconds
