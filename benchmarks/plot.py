"""A plot of ratios to the baseline, as an SVG of bars, without a library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from rounds import Row

_COLOURS = ("#9aa0a6", "#1a73e8", "#e8710a", "#188038", "#a142f4", "#d93025", "#129eaf")
_BAR, _GAP, _LABELS, _WIDTH, _VALUES = 16, 14, 230, 420, 130


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
