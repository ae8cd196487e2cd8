"""What the measurements of batching say: tables in Markdown, and plots in SVG and PNG."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import environments
from batching_load import ClosedLoop, OpenLoop
from batching_variants import ADAPTIVE, FIXED, UNBATCHED, rate
from load import Load
from report import digits_of, markdown, seen, spread, write_plot
from rounds import Row

_PLOT = Path(__file__).parent / "batching_plot.py"
_SETTING_HEADS = ("model", "load", "setting", "req/s", "p50 µs", "p99 µs", "chosen")
_RATIO_HEADS = ("model", "load", "ratio", "of the rates")


def loads_table(rows: Sequence[Row]) -> str:
    """One line for each model, load and server; the first server is the baseline."""
    ratio = f"x {rows[0].server}"
    heads = (
        *("model", "load", "server", "req/s", "p50 µs", "p99 µs", "CPU µs", ratio),
        *("rows/batch", "rejected %", "missed %", "others %"),
    )
    return markdown(heads, [_cells(row) for row in rows], names=3)


def settings_table(rows: Sequence[Row], chosen: Sequence[Row]) -> str:
    """The grid of settings, of which one was chosen for each model."""
    cells = [
        (row.case, str(row.connections), row.server, *seen(row)[:3], "yes" * (row in chosen))
        for row in rows
    ]
    return markdown(_SETTING_HEADS, cells, names=3)


def ratios_table(rows: Sequence[Row], bare: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """Of each model's rates in its largest closed loop, and to the best of its bare loop."""
    cells = []
    for model, servers in largest_closed(rows).items():
        best_bare = _best_bare(bare.get(model, {}))
        for name, over in ((FIXED, UNBATCHED), (ADAPTIVE, UNBATCHED), (ADAPTIVE, FIXED)):
            if name in servers and over in servers:
                text = spread(_ratios(servers[name], servers[over]), 2)
                cells.append((model, str(servers[name].connections), f"{name} / {over}", text))
        for name, row in servers.items():
            if best_bare:
                text = f"{rate(row) / best_bare:.2f}"
                cells.append((model, str(row.connections), f"{name} / bare loop", text))
    return markdown(_RATIO_HEADS, cells, names=3)


def bare_table(bare: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """Rows per second of loops without a server."""
    cells = [
        (model, str(size), spread(rates, digits_of(max(rates))))
        for model, by_size in bare.items()
        for size, rates in by_size.items()
    ]
    return markdown(("model", "rows per batch", "rows/s"), cells, names=1)


def largest_closed(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """By model and kind of server, the rows of the closed loop with the most in flight."""
    largest: dict[str, dict[str, Row]] = {}
    for row in rows:
        if isinstance(row.connections, ClosedLoop):
            servers = largest.setdefault(row.case, {})
            known = servers.get(_kind(row))
            if known is None or known.connections.in_flight <= row.connections.in_flight:
                servers[_kind(row)] = row
    return largest


def write_svg(file: Path, rows: Sequence[Row]) -> None:
    """Bars for the largest closed loops, relative to the first server."""
    drawn = [row for servers in largest_closed(rows).values() for row in servers.values()]
    write_plot(file, drawn, f"Requests per second, {rows[0].server} = 1")


def write_png(file: Path, rows: Sequence[Row], cache: Path) -> None:
    """Rates and latencies, by matplotlib in a scratch environment; without it, say so."""
    try:
        programs = environments.environment(cache, "matplotlib", ["matplotlib"])
        subprocess.run(
            [str(programs / "python"), str(_PLOT), str(file)],
            input=json.dumps([_drawn(row) for row in rows]),
            text=True,
            check=True,
        )
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"{file} is not drawn: {error}", file=sys.stderr)


def _cells(row: Row) -> tuple[str, ...]:
    loads = [sample.load for sample in row.samples]
    sent = sum(load.requests + load.rejected + load.missed for load in loads)
    return (
        row.case,
        str(row.connections),
        row.server,
        *seen(row),
        _rows_per_batch(loads),
        f"{100 * sum(load.rejected for load in loads) / sent:.1f}",
        f"{100 * sum(load.missed for load in loads) / sent:.1f}",
        f"{statistics.median(sample.others for sample in row.samples) * 100:.0f}",
    )


def _rows_per_batch(loads: Sequence[Load]) -> str:
    """The median of the rounds that had batches."""
    known = [load.rows_per_batch for load in loads if load.rows_per_batch is not None]
    return f"{statistics.median(known):.1f}" if known else "-"


def _kind(row: Row) -> str:
    """``fixed`` whatever the setting; others by their name."""
    return FIXED if row.server.startswith(f"{FIXED} ") else row.server


def _ratios(row: Row, over: Row) -> list[float]:
    """Round by round."""
    return [
        one.requests_per_second / other.requests_per_second
        for one, other in zip(row.samples, over.samples, strict=True)
    ]


def _best_bare(by_size: Mapping[int, Sequence[float]]) -> float:
    return max(map(statistics.median, by_size.values()), default=0.0)


def _drawn(row: Row) -> dict[str, object]:
    loop = row.connections
    return {
        "model": row.case,
        "variant": row.server,
        "load": str(loop),
        "closed": isinstance(loop, ClosedLoop),
        "offered": loop.rate if isinstance(loop, OpenLoop) else None,
        "rate": rate(row),
        "p50": statistics.median(sample.load.p50_us for sample in row.samples),
        "p99": statistics.median(sample.load.p99_us for sample in row.samples),
    }
