"""Rounds of measurements that take turns, and the table of their medians."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from load import Connections, Load
from servers import Server

_FULL = 0.9
_HEADS = ("case", "connections", "server", "req/s", "p50 µs", "p99 µs", "CPU µs", "x baseline")


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and the load that it gets. ``check`` raises where its answer is not right."""

    server: Server
    load: Callable[[Connections, float], Load]
    check: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Method:
    """How to measure: rounds of so many seconds, each after a warm-up of so many."""

    rounds: int
    seconds: float
    warm_up_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One server's part of one round. ``cpu_us``: the server's processor time for each request."""

    load: Load
    cpu_us: float

    @property
    def requests_per_second(self) -> float:
        return self.load.requests / self.load.seconds


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of one server in one case. ``ratios``: its rates to the baseline's, by round."""

    case: str
    connections: Connections
    server: str
    samples: Sequence[Sample]
    ratios: Sequence[float]

    def cells(self) -> tuple[str, ...]:
        """As the table shows them: medians, with the smallest and largest of rates and ratios."""
        samples = self.samples
        # Where the generator's own processor is full, the rate is the generator's.
        full = "*" if max(sample.load.busy for sample in samples) > _FULL else ""
        return (
            self.case,
            str(self.connections),
            self.server,
            _spread([sample.requests_per_second for sample in samples], 0) + full,
            f"{statistics.median(sample.load.p50_us for sample in samples):,.0f}",
            f"{statistics.median(sample.load.p99_us for sample in samples):,.0f}",
            f"{statistics.median(sample.cpu_us for sample in samples):,.0f}",
            _spread(self.ratios, 2),
        )

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def compare(
    case: str, connections: Connections, contenders: Sequence[Contender], method: Method
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


def _sample(contender: Contender, connections: Connections, method: Method) -> Sample:
    contender.check()
    contender.load(connections, method.warm_up_seconds)
    contender.server.await_idle()
    before = contender.server.cpu_seconds()
    load = contender.load(connections, method.seconds)
    cpu = contender.server.cpu_seconds() - before
    if not load.requests:
        raise RuntimeError(f"{contender.server.name}: no answer within {method.seconds} s")
    contender.check()
    return Sample(load, cpu / load.requests * 1e6)


def add_arguments(parser: argparse.ArgumentParser, *, connections: str) -> None:
    """The options that every comparison has."""
    parser.add_argument("--connections", default=connections, help="such as 1,64 or 8x8 streams")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--warm_up_seconds", type=float, default=1.0, help="before each round")
    parser.add_argument("--server_cpus", default="0", help="processors of the servers")
    parser.add_argument("--load_cpus", default="1", help="processors of the load generator")
    parser.add_argument("--svg", help="file for a plot of the ratios")


def method_of(arguments: argparse.Namespace) -> Method:
    return Method(arguments.rounds, arguments.seconds, arguments.warm_up_seconds)


def connections_of(arguments: argparse.Namespace) -> list[Connections]:
    return [Connections.parse(text) for text in arguments.connections.split(",")]


def table(rows: Iterable[Row]) -> str:
    """In Markdown, aligned. An asterisk: the load generator was the limit."""
    cells = [_HEADS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    names = 3  # columns that are no numbers

    def line(row: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if index < names else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * width if i < names else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"
