"""The versions that the images install, as `scripts/lock` wrote them."""

from __future__ import annotations

import re
from pathlib import Path

DOCKER = Path(__file__).parents[2] / "deploy" / "docker"
VARIANTS = ("cpu", "gpu", "tables")


def locked(variant: str) -> dict[str, str]:
    """Versions by the names of the packages, with dashes alone."""
    lines = (DOCKER / f"requirements-{variant}.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name): version for name, version in pairs}
