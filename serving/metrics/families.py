"""What metrics hold at one moment, and what several processes hold together.

Only data and functions of it: it travels between processes.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

OTHER = "(other)"
"""The label values of what finds no cell of its own any more."""

MOST_CELLS = 10_000
"""How many cells a metric has that are not for others together."""

_NAMES = frozenset({"model_name", "model", "version", "model_path"})
"""Labels with as many values as there are models and versions; others have a few."""


class Kind(enum.Enum):
    """How a number behaves; the values are Prometheus' words."""

    COUNTER = "counter"
    """Only grows."""
    GAUGE = "gauge"
    """Comes and goes."""
    HISTOGRAM = "histogram"
    """How many observations fell where."""


class Together(enum.Enum):
    """What the gauges of several processes are together."""

    SUM = enum.auto()
    MAX = enum.auto()
    MIN = enum.auto()


@dataclass(frozen=True, slots=True)
class Description:
    """A metric but for its numbers.

    ``bounds`` are a histogram's, ascending: the largest values that fall into each of its buckets
    but the last, which has no bound. ``together`` counts for gauges.
    """

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    together: Together = Together.SUM


@dataclass(frozen=True, slots=True)
class Distribution:
    """One cell of a histogram: observations by bucket, and the sum of their values."""

    counts: tuple[int, ...]
    sum: float


Cell = int | float | Distribution
Cells = Mapping[tuple[str, ...], Cell]
"""The values of a metric by label values, in the order of its labels."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its numbers."""

    description: Description
    cells: Cells


Snapshot = Mapping[str, Family]
"""The metrics of a process at one moment, by name."""


def merged(snapshots: Iterable[Snapshot]) -> dict[str, Family]:
    """What the processes hold together; names and cells in order.

    Counters and histograms are summed, gauges as each says. Where a metric's buckets or labels
    differ, which they do between programs only, the first counts. What is beyond the most cells
    of a metric is counted together.
    """
    families: dict[str, Family] = {}
    for snapshot in snapshots:
        for name, family in snapshot.items():
            known = families.get(name)
            if known is None:
                families[name] = family
            elif known.description == family.description:
                families[name] = Family(known.description, _merged_cells(known, family))
    return {
        name: Family(families[name].description, dict(sorted(families[name].cells.items())))
        for name in sorted(families)
    }


def together(labels: tuple[str, ...], values: tuple[str, ...]) -> tuple[str, ...]:
    """Where that is counted which finds no cell of its own: what names models is left out."""
    return tuple(
        OTHER if label in _NAMES else value for label, value in zip(labels, values, strict=True)
    )


def of_versions(snapshot: Snapshot, versions: Collection[tuple[str, str]]) -> dict[str, Family]:
    """Without what was counted for other versions than these, each a model's name and number."""
    kept = {*versions, (OTHER, OTHER)}
    return {name: _of_versions(family, kept) for name, family in snapshot.items()}


def lasting(snapshot: Snapshot) -> dict[str, Family]:
    """What still counts when the process is gone: all but gauges."""
    return {
        name: family
        for name, family in snapshot.items()
        if family.description.kind is not Kind.GAUGE
    }


def _of_versions(family: Family, kept: Collection[tuple[str, str]]) -> Family:
    labels = family.description.labels
    if "model_name" not in labels or "version" not in labels:
        return family
    name, version = labels.index("model_name"), labels.index("version")
    cells = {
        values: cell
        for values, cell in family.cells.items()
        if (values[name], values[version]) in kept
    }
    return Family(family.description, cells)


def _merged_cells(one: Family, other: Family) -> Cells:
    cells = dict(one.cells)
    for labels, cell in other.cells.items():
        place = labels
        if labels not in cells and len(cells) >= MOST_CELLS:
            place = together(one.description.labels, labels)
        known = cells.get(place)
        cells[place] = cell if known is None else _joined(one.description.together, known, cell)
    return cells


def _joined(together: Together, one: Cell, other: Cell) -> Cell:
    if isinstance(one, Distribution) or isinstance(other, Distribution):
        assert isinstance(one, Distribution)  # the descriptions are the same
        assert isinstance(other, Distribution)
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Distribution(counts, one.sum + other.sum)
    if together is Together.MAX:
        return max(one, other)
    if together is Together.MIN:
        return min(one, other)
    return one + other
