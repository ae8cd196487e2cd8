"""Where whole lines go: a file that others may move away meanwhile, or standard output."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


class AppendedFile:
    """A file that lines are appended to. Not thread-safe.

    When it was moved or removed, which is how logs are rotated, the next write makes a new one.
    Where it was cut off to length 0, which is the other way, it goes on from there. Several
    processes may append to one file: what one write gives stays together.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file = -1
        self._identity = (0, 0)

    def open(self) -> None:
        """Open it, or make it. Raises OSError."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        status = os.fstat(self._file)
        self._identity = (status.st_dev, status.st_ino)

    def write(self, lines: bytes) -> None:
        """Append. Raises OSError."""
        if not self._is_there():
            self.close()
            self.open()
        while lines:
            lines = lines[os.write(self._file, lines) :]

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _is_there(self) -> bool:
        with suppress(OSError):
            status = self._path.stat()
            return self._file >= 0 and (status.st_dev, status.st_ino) == self._identity
        return False


class StandardOutput:
    """As :class:`AppendedFile`, for lines that somebody reads from this process."""

    def open(self) -> None:
        """It is open."""

    def write(self, lines: bytes) -> None:
        # One at a time: what is short stays together also where processes share a pipe.
        for line in lines.decode().splitlines(keepends=True):
            sys.stdout.write(line)
            sys.stdout.flush()

    def close(self) -> None:
        """It stays open."""
