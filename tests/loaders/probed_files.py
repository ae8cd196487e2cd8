"""Stands for what loads a file in a process of its own: does what the file says."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

SURVIVED = 86


def main(arguments: Sequence[str]) -> None:
    _, path = arguments
    with Path(path, "tries").open("a") as tries:
        tries.write("x")
    wanted = Path(path, "file").read_text()
    if wanted == "crash":
        os.write(1, b"about to crash")
        ctypes.string_at(0)
    while wanted == "hang":
        pass
    os._exit(0 if wanted == "end" else SURVIVED)
