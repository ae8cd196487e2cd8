"""Rounds of measurements that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from load import Load
from servers import Server

_LONGEST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and the load that it gets. ``check`` raises where its answer is not right.

    ``load`` is told how much there is to be (connections, for most) and for how many seconds.
    """

    server: Server
    load: Callable[[Any, float], Load]
    check: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Method:
    """How to measure: rounds of so many seconds, each after a warm-up of so many."""

    rounds: int
    seconds: float
    warm_up_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One server's part of one round.

    ``cpu_us`` is the server's processor time for each request, ``others`` how many processors the
    rest of the machine took from it meanwhile: 1 is as much as one has.
    """

    load: Load
    cpu_us: float
    others: float

    @property
    def requests_per_second(self) -> float:
        return self.load.requests / self.load.seconds


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of one server in one case. ``ratios``: its rates to the baseline's, by round."""

    case: str
    connections: Any
    server: str
    samples: Sequence[Sample]
    ratios: Sequence[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def compare(
    case: str, connections: Any, contenders: Sequence[Contender], method: Method
) -> list[Row]:
    """Measure all in turn, round by round; the first one is the baseline.

    Those whose turn it is not stand still: some servers are busy when nobody asks them anything.
    """
    samples: list[list[Sample]] = [[] for _ in contenders]
    for contender in contenders:
        contender.server.suspend()
    for _ in range(method.rounds):
        for contender, taken in zip(contenders, samples, strict=True):
            contender.server.resume()
            taken.append(_sample(contender, connections, method))
            contender.server.suspend()
    for contender in contenders:
        contender.server.resume()
    baseline = [sample.requests_per_second for sample in samples[0]]
    return [
        Row(
            case,
            connections,
            contender.server.name,
            taken,
            [
                sample.requests_per_second / rate
                for sample, rate in zip(taken, baseline, strict=True)
            ],
        )
        for contender, taken in zip(contenders, samples, strict=True)
    ]


def _sample(contender: Contender, connections: Any, method: Method) -> Sample:
    contender.check()
    contender.load(connections, method.warm_up_seconds)
    seconds = method.seconds
    while (sample := _measure(contender, connections, seconds)) is None:
        seconds *= 2  # many connections, slow answers: all are begun before one is complete
        if seconds > _LONGEST_SECONDS:
            raise RuntimeError(f"{contender.server.name}: no answer within {seconds / 2} s")
    contender.check()
    return sample


def _measure(contender: Contender, connections: Any, seconds: float) -> Sample | None:
    """None where there was no answer."""
    server = contender.server
    server.await_idle()
    started, busy_before, cpu_before = time.monotonic(), server.busy_seconds(), server.cpu_seconds()
    load = contender.load(connections, seconds)
    cpu = server.cpu_seconds() - cpu_before
    busy = server.busy_seconds() - busy_before
    taken = time.monotonic() - started
    if not load.requests:
        return None
    return Sample(load, cpu / load.requests * 1e6, max(0.0, busy - cpu) / taken)
