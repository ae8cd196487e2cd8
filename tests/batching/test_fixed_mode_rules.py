"""The scheduler, threads and all, makes the batches that TensorFlow Serving's rules make."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from fixed_mode_rules import Arrival, Rules, Simulation, Trace
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.errors import ServingError
from serving.core.servable import Outputs, RunCallback, RunOptions
from serving.testing import FakeClock, FakeServable

TICK = 15_625  # microseconds; whole in binary as seconds, so that sums of times are exact
QUEUES = 3
ROWS = 100  # more than any request has
ANSWERED = "answered"
EXPIRED = "Run() timeout exceeded while waiting in batching queue"
SECONDS_TO_SETTLE = 60  # only a failure takes so long


class Run(NamedTuple):
    """One run of a model: the rows it saw, each named by request and place in it."""

    at: int
    queue: int
    rows: tuple[int, ...]
    deadline: float


class Stage(FakeClock):
    """A clock that knows when all batch threads sleep on it or are held by a run."""

    def __init__(self, threads: int) -> None:
        super().__init__(0.0)
        self._threads = threads
        self._moved = threading.Condition()
        self._asleep: list[tuple[float, threading.Event]] = []
        self._held: list[tuple[int, RunCallback, Outputs]] = []
        self.runs: list[Run] = []

    @property
    def micros(self) -> int:
        return round(self.monotonic() * 1e6)

    def wait(self, event: threading.Event, timeout_seconds: float | None) -> bool:
        until = math.inf if timeout_seconds is None else self.monotonic() + timeout_seconds
        with self._moved:
            self._asleep.append((until, event))
            self._moved.notify_all()
        event.wait()
        with self._moved:
            self._asleep.remove((until, event))
        return True

    def hold(self, run: Run, until: int, done: RunCallback, outputs: Outputs) -> None:
        with self._moved:
            self.runs.append(run)
            self._held.append((until, done, outputs))
            self._moved.notify_all()

    def tick(self) -> None:
        """One step of time: threads whose sleep is over wake, and runs that are over end."""
        self.advance(TICK / 1e6)
        with self._moved:
            over = [held for held in self._held if held[0] <= self.micros]
            self._held = [held for held in self._held if held[0] > self.micros]
            for until, event in self._asleep:
                if until <= self.monotonic():
                    event.set()
        for _, done, outputs in over:
            done(outputs)
        self.settle()

    def settle(self) -> None:
        def is_settled() -> bool:
            asleep = sum(not event.is_set() for _, event in self._asleep)
            return asleep + len(self._held) == self._threads

        with self._moved:
            assert self._moved.wait_for(is_settled, SECONDS_TO_SETTLE), "threads got lost"


class Staged(FakeServable):
    """Doubles its input; a run takes as long as the first request in it says."""

    def __init__(self, stage: Stage, queue: int, run_micros: Sequence[int]) -> None:
        super().__init__()
        self._stage, self._queue, self._run_micros = stage, queue, run_micros

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        x = feeds["x:0"]
        deadline = math.inf if options.deadline is None else options.deadline * 1e6
        run = Run(self._stage.micros, self._queue, tuple(x.tolist()), deadline)
        takes = self._run_micros[run.rows[0] // ROWS % len(self._run_micros)]
        self._stage.hold(run, run.at + takes, done, [x * 2])


def played(
    rules: Rules, arrivals: Sequence[Arrival], run_micros: Sequence[int], queues: int, until: int
) -> tuple[list[Run], list[str]]:
    """What the scheduler makes of the arrivals: its runs, and each request's outcome."""
    stage = Stage(rules.num_batch_threads)
    scheduler = SharedBatchScheduler(SchedulerOptions(rules.num_batch_threads), stage)
    options = BatchingOptions(
        QueueOptions(
            rules.max_batch_size,
            rules.batch_timeout_micros,
            rules.max_enqueued_batches,
            rules.max_execution_batch_size is not None,
            rules.max_execution_batch_size,
        ),
        rules.allowed_batch_sizes,
    )

    def made(queue: int) -> BatchingServable:
        model = Staged(stage, queue, run_micros)
        return BatchingServable(model, model, scheduler, options, stage)

    batched = {queue: made(queue) for queue in range(queues)}
    results: list[list[Outputs | ServingError]] = [[] for _ in arrivals]
    scheduler.start()
    stage.settle()
    to_come = list(enumerate(arrivals))
    while stage.micros <= until:
        while to_come and to_come[0][1].at == stage.micros:
            number, arrival = to_come.pop(0)
            x = number * ROWS + np.arange(arrival.rows)
            deadline = None if arrival.deadline is None else arrival.deadline / 1e6
            if arrival.queue not in batched:
                batched[arrival.queue] = made(arrival.queue)
            run = partial(batched[arrival.queue].run, {"x:0": x}, ["y:0"], RunOptions(deadline))
            run(results[number].append)
            stage.settle()
        stage.tick()
    scheduler.stop()
    outcomes = [outcome(number, each, arrivals[number]) for number, each in enumerate(results)]
    return sorted(stage.runs), outcomes


def outcome(number: int, results: list[Outputs | ServingError], arrival: Arrival) -> str:
    (result,) = results  # one answer, whatever it is
    if isinstance(result, ServingError):
        return result.message
    (y,) = result
    assert y.tolist() == [2 * (number * ROWS + row) for row in range(arrival.rows)]
    return ANSWERED


def expected_runs(trace: Trace, arrivals: Sequence[Arrival]) -> list[Run]:
    runs, seen = [], defaultdict[int, int](int)
    for batch in trace.batches:
        rows, first_of_last = [], 0
        for number, size in batch.parts:
            first_of_last = number * ROWS + seen[number]
            rows += range(first_of_last, first_of_last + size)
            seen[number] += size
        rows += [first_of_last] * (batch.rows_with_padding - len(rows))
        deadlines = [arrivals[number].deadline for number, _ in batch.parts]
        latest = max(math.inf if each is None else each for each in deadlines)
        if not batch.expired:
            runs.append(Run(batch.at, batch.queue, tuple(rows), latest))
    return sorted(runs)


def expected_outcomes(trace: Trace, arrivals: Sequence[Arrival]) -> list[str]:
    expired = {number for batch in trace.batches if batch.expired for number, _ in batch.parts}
    return [
        trace.refusals.get(number, EXPIRED if number in expired else ANSWERED)
        for number in range(len(arrivals))
    ]


@st.composite
def all_rules(draw: st.DrawFn) -> Rules:
    most = draw(st.integers(1, 6))
    splitting = draw(st.booleans())
    sizes = draw(st.none() | st.lists(st.integers(1, 6), max_size=3))  # in any order
    return Rules(
        max_batch_size=most,
        batch_timeout_micros=draw(st.integers(0, 4)) * TICK,
        max_enqueued_batches=draw(st.integers(1 if splitting else 0, 3)),
        num_batch_threads=draw(st.integers(1, 3)),
        allowed_batch_sizes=() if sizes is None else (*sizes, most),
        max_execution_batch_size=draw(st.integers(1, most)) if splitting else None,
    )


@st.composite
def all_arrivals(draw: st.DrawFn) -> list[Arrival]:
    arrivals: list[Arrival] = []
    now = 0
    one = st.tuples(
        st.sampled_from([0, 0, 0, 1, 2, 5]),
        st.integers(0, QUEUES - 1),
        st.integers(1, 7),
        st.none() | st.integers(0, 8),
    )
    for gap, queue, rows, patience in draw(st.lists(one, min_size=1, max_size=30)):
        now += gap * TICK
        deadline = None if patience is None else now + patience * TICK
        arrivals.append(Arrival(now, queue, rows, deadline))
    return arrivals


ALL_RUN_MICROS = st.lists(st.integers(1, 9).map(lambda ticks: ticks * TICK), min_size=1, max_size=4)

QUEUES_AT_FIRST = st.integers(0, QUEUES)


def check_against_the_rules(
    rules: Rules, arrivals: Sequence[Arrival], run_micros: Sequence[int], queues: int
) -> None:
    trace = Simulation(rules, queues, run_micros).play(arrivals)
    last_start = max((batch.at for batch in trace.batches), default=0)
    until = max(last_start, arrivals[-1].at) + max(run_micros)
    runs, outcomes = played(rules, arrivals, run_micros, queues, until)
    assert runs == expected_runs(trace, arrivals)
    texts = expected_outcomes(trace, arrivals)
    # Of a refusal that ends in an open bracket the rules give the beginning.
    assert [
        outcome[: len(text)] if text.endswith(", ") else outcome
        for outcome, text in zip(outcomes, texts, strict=True)
    ] == texts


# A queue is added after the last had its turn.
@example(
    Rules(1, 0, 2, 1, allowed_batch_sizes=(1,)),
    [Arrival(0, 1, 1), Arrival(TICK, 2, 1), Arrival(TICK, 0, 1)],
    [3 * TICK],
    2,
)
@settings(max_examples=100, derandomize=True)
@given(all_rules(), all_arrivals(), ALL_RUN_MICROS, QUEUES_AT_FIRST)
def test_the_same_batches_at_the_same_times_as_by_the_rules(
    rules: Rules, arrivals: list[Arrival], run_micros: list[int], queues: int
):
    check_against_the_rules(rules, arrivals, run_micros, queues)


# `scripts/test --slow tests/batching/test_fixed_mode_rules.py`
@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, derandomize=False, suppress_health_check=list(HealthCheck))
@given(all_rules(), all_arrivals(), ALL_RUN_MICROS, QUEUES_AT_FIRST)
def test_the_same_batches_for_very_many_arrivals(
    rules: Rules, arrivals: list[Arrival], run_micros: list[int], queues: int
):
    check_against_the_rules(rules, arrivals, run_micros, queues)
