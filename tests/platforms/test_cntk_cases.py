"""CNTK's models are served as every platform's are; what is peculiar to them: tests/loaders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from cntk_cases import NET
from platform_tests import PlatformCase, PlatformTests, served

__all__ = ["served"]


def write(name: str, directory: Path) -> Mapping[str, np.ndarray]:
    (directory / name).write_bytes(NET.content())
    return NET.answers()


MODEL = PlatformCase(
    "model", "cntk", "model.model", partial(write, "model.model"), {"x": NET.x}, tolerance=1e-5
)
CASES = [MODEL, replace(MODEL, id="dnn", file="net.dnn", write=partial(write, "net.dnn"))]


class TestCntk(PlatformTests):
    """One file, of either name."""
