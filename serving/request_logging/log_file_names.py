"""How the files of request logs are called: ``PREFIX-TIME-HOST-PID-NUMBER.SUFFIX``."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path


def log_file(prefix: Path, suffix: str, seconds: float, number: int) -> Path:
    """The file that this process begins at ``seconds`` since the epoch as its ``number``."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
    name = f"{moment}-{socket.gethostname()}-{os.getpid()}-{number}"
    return prefix.with_name(f"{prefix.name}-{name}{suffix}")


def log_files(prefix: Path, suffixes: Sequence[str]) -> Sequence[Path]:
    """The files of a prefix, whichever processes began them; not those of a longer prefix.

    Raises OSError where the directory can not be read.
    """
    ends = "|".join(map(re.escape, suffixes))
    pattern = re.compile(rf"{re.escape(prefix.name)}-\d{{8}}T\d{{6}}Z-.+-\d+-\d+({ends})")
    return [path for path in prefix.parent.iterdir() if pattern.fullmatch(path.name)]
