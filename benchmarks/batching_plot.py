"""Draws rates and latencies with matplotlib; runs in an environment that has it.

    python batching_plot.py FILE < rows.json

A row of the input: model, variant, whether its loop is closed, the load's name, the rate offered
in an open loop, and the rate, p50 and p99 (µs) that were seen.
"""

from __future__ import annotations

import json
import sys

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 11, 3
_COLOURS = {"unbatched": "#9aa0a6", "fixed": "#1a73e8", "adaptive": "#e8710a"}


def main() -> None:
    rows = json.load(sys.stdin)
    models = list(dict.fromkeys(row["model"] for row in rows))
    size = (_WIDTH, _HEIGHT * len(models))
    figure, axes = pyplot.subplots(len(models), 2, figsize=size, squeeze=False)
    for model, (left, right) in zip(models, axes, strict=True):
        own = [row for row in rows if row["model"] == model]
        _bars(left, [row for row in own if row["closed"]])
        _lines(right, [row for row in own if not row["closed"]])
        left.set_title(f"{model}: closed loop")
        right.set_title(f"{model}: arrivals at random")
    figure.tight_layout()
    figure.savefig(sys.argv[1], dpi=120)


def _bars(axes: Axes, rows: list[dict]) -> None:
    """Requests per second of each variant at each load."""
    names = [f"{row['variant']}, {row['load']}" for row in rows]
    axes.barh(names, [row["rate"] for row in rows], color=[_colour(row) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("requests per second")


def _lines(axes: Axes, rows: list[dict]) -> None:
    """Median and 99th percentile of each variant over the rate offered."""
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = sorted((r for r in rows if r["variant"] == variant), key=lambda r: r["offered"])
        offered = [row["offered"] for row in own]
        for percentile, style in (("p50", "o--"), ("p99", "o-")):
            milliseconds = [row[percentile] / 1000 for row in own]
            label = f"{variant}, {percentile}"
            axes.plot(offered, milliseconds, style, label=label, color=_colour(own[0]))
    axes.set_xlabel("requests per second offered")
    axes.set_ylabel("latency, ms")
    axes.set_yscale("log")
    axes.legend(fontsize="x-small", handlelength=3)


def _colour(row: dict) -> str | None:
    return _COLOURS.get(row["variant"].split()[0])


if __name__ == "__main__":
    main()
