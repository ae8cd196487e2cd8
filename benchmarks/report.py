"""What the measurements say: a table in Markdown, and a plot in SVG."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from rounds import Row

_FULL = 0.9
_FEW = 100
_HEADS = (
    "case",
    "connections",
    "server",
    "req/s",
    "p50 µs",
    "p99 µs",
    "CPU µs",
    "x baseline",
    "others %",
)
_COLOURS = ("#9aa0a6", "#1a73e8", "#e8710a", "#188038", "#a142f4", "#d93025", "#129eaf")
_BAR, _GAP, _LABELS, _WIDTH, _VALUES = 16, 14, 230, 420, 190


def report(rows: Sequence[Row], svg: str | None) -> None:
    """Print the table; draw the rows with the last number of connections, where a file is given."""
    print(f"\n{table(rows)}")
    if svg:
        last = [row for row in rows if row.connections == rows[-1].connections]
        write_plot(Path(svg), last, "Requests per second, baseline = 1")


def table(rows: Iterable[Row]) -> str:
    """In Markdown, aligned. An asterisk: the load generator was the limit."""
    return markdown(_HEADS, [_cells(row) for row in rows], names=3)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], *, names: int) -> str:
    """A table, aligned; the first ``names`` columns are no numbers."""
    cells = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if index < names else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * width if i < names else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def write_plot(file: Path, rows: Sequence[Row], title: str) -> None:
    """One group of bars for each case and number of connections, one bar for each server."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row.case}, {row.connections}", []).append(row)
    servers = list(dict.fromkeys(row.server for row in rows))
    colours = dict(zip(servers, _COLOURS * len(servers), strict=False))
    scale = _WIDTH / max(row.ratio for row in rows)
    parts = [_text(0, 16, title, bold=True)]
    top = 30
    for label, members in groups.items():
        parts.append(_text(0, top + _BAR * len(members) / 2 + 4, label))
        for row in members:
            width = max(1.0, row.ratio * scale)
            parts.append(
                f'<rect x="{_LABELS}" y="{top}" width="{width:.0f}" height="{_BAR - 2}"'
                f' fill="{colours[row.server]}"/>'
            )
            parts.append(_text(_LABELS + width + 5, top + 12, f"{row.ratio:.2f} {row.server}"))
            top += _BAR
        top += _GAP
    size = f'width="{_LABELS + _WIDTH + _VALUES}" height="{top}"'
    style = 'font-family="sans-serif" font-size="12" fill="#3c4043"'
    body = "\n".join(parts)
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{weight}>{escape(text)}</text>'


def _cells(row: Row) -> tuple[str, ...]:
    """As the table shows them: medians, with the smallest and largest of rates and ratios."""
    samples = row.samples
    return (
        row.case,
        str(row.connections),
        row.server,
        *seen(row),
        f"{statistics.median(sample.others for sample in samples) * 100:.0f}",
    )


def seen(row: Row) -> tuple[str, ...]:
    """Rate, p50, p99, CPU and ratio."""
    samples = row.samples
    rates = [sample.requests_per_second for sample in samples]
    # Where the generator's own processor is full, or it is late, the rate is the generator's.
    full = any(sample.load.busy > _FULL or sample.load.late for sample in samples)
    return (
        spread(rates, digits_of(max(rates))) + "*" * full,
        f"{statistics.median(sample.load.p50_us for sample in samples):,.0f}",
        f"{statistics.median(sample.load.p99_us for sample in samples):,.0f}",
        f"{statistics.median(sample.cpu_us for sample in samples):,.0f}",
        spread(row.ratios, 2),
    )


def digits_of(rate: float) -> int:
    """How many decimals tell apart what differs by a hundredth or so."""
    return 0 if rate >= _FEW else 1


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and in parentheses the smallest and the largest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"
