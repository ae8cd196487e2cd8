"""What docs/how_to/add_a_platform.md shows, to be followed word for word."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "how_to" / "add_a_platform.md"


def blocks() -> tuple[dict[str, str], str]:
    """The files that the page shows, by name, and its program that asks."""
    text = PAGE.read_text()
    found = re.findall(r"(?:\*\*([\w./]+)\*\*[^`*]*\n\n)?```\w+\n(.*?)```", text, re.DOTALL)
    (asks,) = [block for name, block in found if not name]
    return {name: block for name, block in found if name}, asks


def expected_output() -> str:
    """What the program prints, by the page."""
    (printed,) = re.findall(r"This prints `([^`]*)`", PAGE.read_text())
    return str(printed)


def write(files: dict[str, str], folder: Path) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
