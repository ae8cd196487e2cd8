"""The metrics of one process, and those of all processes of a server together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from serving.metrics import families
from serving.metrics.cells import DistributionCell, NumberCell
from serving.metrics.families import (
    Cells,
    Description,
    Family,
    Kind,
    Snapshot,
    merged,
    together,
)

log = logging.getLogger(__name__)

_LONGEST_LABEL_VALUE = 1024


C = TypeVar("C", bound=NumberCell | DistributionCell)


class _Metric(Generic[C]):
    """A cell for each combination of label values, made when first asked for. Thread-safe.

    There is a bound to the cells and to the length of values: beyond them, what names models and
    versions is "(other)".
    """

    def __init__(self, description: Description, new_cell: Callable[[], C]) -> None:
        self.description = description
        self._new_cell = new_cell
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], C] = {}

    def cell(self, *label_values: str) -> C:
        """The cell with these label values, given in the order of the labels.

        Whoever counts often with the same values keeps it.
        """
        return self._cells.get(label_values) or self._made_cell(label_values)

    def cells(self) -> Cells:
        """The value of every cell, by label values, in order of those."""
        with self._lock:
            cells = sorted(self._cells.items())
        return {labels: cell.value() for labels, cell in cells}

    def forget(self, **label_values: str) -> None:
        """Drop the cells that have these values; who kept one counts for nobody."""
        places = [
            (self.description.labels.index(label), value) for label, value in label_values.items()
        ]
        with self._lock:
            for labels in list(self._cells):
                if all(labels[place] == value for place, value in places):
                    del self._cells[labels]

    def _made_cell(self, label_values: tuple[str, ...]) -> C:
        name, labels = self.description.name, self.description.labels
        if len(label_values) != len(labels):
            raise ValueError(f"{name} takes the labels {labels}, not {label_values}")
        is_long = any(len(value) > _LONGEST_LABEL_VALUE for value in label_values)
        with self._lock:
            if is_long or len(self._cells) >= families.MOST_CELLS:
                label_values = together(labels, label_values)
            return self._cells.setdefault(label_values, self._new_cell())


class Counter(_Metric[NumberCell]):
    """A number that only grows, one for each combination of label values."""

    def increment(self, *label_values: str, by: float = 1) -> None:
        """Add to the cell with these label values."""
        self.cell(*label_values).add(by)


class Gauge(_Metric[NumberCell]):
    """A number that comes and goes: add what has come, add less than 0 for what has gone."""


class Histogram(_Metric[DistributionCell]):
    """How observations are distributed over buckets."""

    def observe(self, value: float, *label_values: str) -> None:
        """Count one in the cell with these label values."""
        self.cell(*label_values).observe(value)


M = TypeVar("M", Counter, Gauge, Histogram)

Sample = Callable[[], Mapping[str, Cells]]
"""Cells by the name of the metric, as they are when it is called."""

CountEverywhere = Callable[[Callable[[], Snapshot]], Sequence[Snapshot]]
"""What each process of the server holds, this one by the function given; may take its time."""


class Metrics:
    """The metrics of one server, which several processes may be. Thread-safe."""

    def __init__(
        self,
        count_everywhere: CountEverywhere = lambda count: [count()],
        *,
        is_published: bool = False,
    ) -> None:
        """``is_published``: whether anybody can read more than single counters, so that what takes
        time to measure is worth it.
        """
        self.is_published = is_published
        self._count_everywhere = count_everywhere
        self._lock = threading.Lock()
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        self._samples: list[tuple[Sequence[Description], Sample]] = []

    def counter(self, name: str, description: str, labels: Sequence[str]) -> Counter:
        """The counter with this name, made when first asked for.

        Raises ValueError when the name is taken by another metric or one with other labels.
        """
        described = Description(name, description, Kind.COUNTER, tuple(labels))
        return self._known(Counter, Counter(described, NumberCell))

    def gauge(self, name: str, description: str, labels: Sequence[str]) -> Gauge:
        """As :meth:`counter`; of several processes it is the sum."""
        described = Description(name, description, Kind.GAUGE, tuple(labels))
        return self._known(Gauge, Gauge(described, NumberCell))

    def histogram(
        self, name: str, description: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> Histogram:
        """As :meth:`counter`; ``bounds`` as in :class:`Description`."""
        bounds = tuple(bounds)
        described = Description(name, description, Kind.HISTOGRAM, tuple(labels), bounds)
        return self._known(Histogram, Histogram(described, partial(DistributionCell, bounds)))

    def sampled(self, descriptions: Sequence[Description], sample: Sample) -> None:
        """Have these metrics asked for whenever somebody wants to know them."""
        with self._lock:
            self._samples.append((descriptions, sample))

    def snapshot(self) -> dict[str, Family]:
        """What this process holds now."""
        with self._lock:
            metrics, samples = list(self._metrics.values()), list(self._samples)
        found = [Family(metric.description, metric.cells()) for metric in metrics]
        for descriptions, sample in samples:
            cells = _sampled(sample)
            found += [Family(each, cells.get(each.name, {})) for each in descriptions]
        return {family.description.name: family for family in found}

    def total(self) -> dict[str, Family]:
        """What all processes hold together; blocks until they have answered.

        Raises Unavailable where they do not.
        """
        return merged(self._count_everywhere(self.snapshot))

    def first_value(self, name: str) -> int:
        """The first cell of a counter, summed over all processes; 0 where there is none."""
        family = self.total().get(name)
        cells = family.cells if family and family.description.kind is Kind.COUNTER else {}
        return int(next((cell for cell in cells.values() if isinstance(cell, int)), 0))

    def _known(self, kind: type[M], metric: M) -> M:
        """The metric that is known with this one's name, which it is if there is none."""
        wanted = metric.description
        with self._lock:
            known = self._metrics.setdefault(wanted.name, metric)
        found = known.description
        if not isinstance(known, kind) or (found.labels, found.bounds) != (
            wanted.labels,
            wanted.bounds,
        ):
            raise ValueError(
                f"{found.name} is a {found.kind.value} with the labels {found.labels}, not a "
                f"{wanted.kind.value} with {wanted.labels}"
            )
        return known


def _sampled(sample: Sample) -> Mapping[str, Cells]:
    """Nothing where it fails: the other metrics are read all the same."""
    try:
        return sample()
    except Exception:
        log.exception("metrics can not be read")
        return {}
