"""Prometheus' text format, as TensorFlow Serving writes it.

https://prometheus.io/docs/instrumenting/exposition_formats describes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from serving.metrics.families import Cell, Description, Distribution, Family

_NO_METRIC_NAME = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def metric_name(name: str) -> str:
    """The name on the page: whatever is no letter, digit or underscore becomes a colon."""
    return _NO_METRIC_NAME.sub(":", name)


def prometheus_text(families: Iterable[Family]) -> str:
    """The page for these metrics, one after another. A family without cells has its type only.

    Those of TensorFlow Serving, whose names have slashes, have no help there, nor here.
    """
    return "".join(f"{line}\n" for family in families for line in _family(family))


def _family(family: Family) -> Iterator[str]:
    described = family.description
    name = metric_name(described.name)
    if described.help and described.name == name:
        yield f"# HELP {name} {described.help.translate(_HELP_ESCAPES)}"
    yield f"# TYPE {name} {described.kind.value}"
    for values, cell in family.cells.items():
        labels = [
            f'{label}="{value.translate(_ESCAPES)}"'
            for label, value in zip(described.labels, values, strict=True)
        ]
        yield from _samples(name, labels, described, cell)


def _samples(name: str, labels: Sequence[str], described: Description, cell: Cell) -> Iterator[str]:
    joined = ",".join(labels)
    if not isinstance(cell, Distribution):
        yield f"{name}{{{joined}}} {cell}"
        return
    seen = 0
    bounds = [*(f"{bound:g}" for bound in described.bounds), "+Inf"]
    for bound, count in zip(bounds, cell.counts, strict=True):
        seen += count
        within = ",".join([*labels, f'le="{bound}"'])
        yield f"{name}_bucket{{{within}}} {seen}"
    yield f"{name}_sum{{{joined}}} {cell.sum}"
    yield f"{name}_count{{{joined}}} {seen}"
