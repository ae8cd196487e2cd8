"""Numbers that the server keeps about itself, by name and labels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

Cells = Mapping[tuple[str, ...], int]
"""The values of a counter by label values."""

Counts = Mapping[str, Cells]
"""The cells of every counter of a process, by the counter's name."""


class Counter:
    """A number that only grows, one for each combination of label values. Thread-safe."""

    def __init__(self, name: str, description: str, labels: Sequence[str]) -> None:
        self.name = name
        self.description = description
        self.labels = tuple(labels)
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], int] = {}

    def increment(self, *label_values: str, by: int = 1) -> None:
        """Add to the cell with these label values, given in the order of ``labels``."""
        if len(label_values) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, not {label_values}")
        with self._lock:
            self._cells[label_values] = self._cells.get(label_values, 0) + by

    def cells(self) -> Cells:
        """A copy of every cell, by label values, in order of those."""
        with self._lock:
            return dict(sorted(self._cells.items()))


class Metrics:
    """The metrics of one server, which several processes may be. Thread-safe."""

    def __init__(self, counted_elsewhere: Callable[[], Sequence[Counts]] = lambda: ()) -> None:
        """``counted_elsewhere`` asks the other processes of the server, and may take its time."""
        self._counted_elsewhere = counted_elsewhere
        self._lock = threading.Lock()
        self._counters: dict[str, Counter] = {}

    def counter(self, name: str, description: str, labels: Sequence[str]) -> Counter:
        """The counter with this name, made when first asked for.

        Raises ValueError when the name is taken by a counter with other labels.
        """
        with self._lock:
            counter = self._counters.setdefault(name, Counter(name, description, labels))
        if counter.labels != tuple(labels):
            raise ValueError(f"{name} has the labels {counter.labels}, not {tuple(labels)}")
        return counter

    def counters(self) -> Sequence[Counter]:
        """Every counter, in order of names."""
        with self._lock:
            return [self._counters[name] for name in sorted(self._counters)]

    def counts(self) -> Counts:
        """What this process has counted."""
        return {counter.name: counter.cells() for counter in self.counters()}

    def first_value(self, name: str) -> int:
        """The first cell of a metric, summed over all processes; 0 where there is none."""
        total: dict[tuple[str, ...], int] = {}
        for counts in (self.counts(), *self._counted_elsewhere()):
            for labels, value in counts.get(name, {}).items():
                total[labels] = total.get(labels, 0) + value
        return total[min(total)] if total else 0


def request_count(metrics: Metrics) -> Counter:
    """Requests answered, by model and by the name of the status code they ended with."""
    return metrics.counter(
        "/tensorflow/serving/request_count",
        "The total number of requests.",
        ("model_name", "status"),
    )


def warm_up_records_read(metrics: Metrics) -> Counter:
    """Warm-up records run, by directory of the version and by how its warm-up ended."""
    return metrics.counter(
        "/tensorflow/serving/model_warmup_records_read",
        "The total number of warm-up records that were run.",
        ("model_path", "status"),
    )
