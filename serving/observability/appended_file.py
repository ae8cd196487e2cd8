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

    ``lost`` is how many lines could not be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file = -1
        self._identity = (0, 0)
        self._rest = b""
        self.lost = 0

    def open(self) -> None:
        """Open it, or make it. Raises OSError."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        status = os.fstat(self._file)
        self._identity = (status.st_dev, status.st_ino)

    def write(self, lines: bytes) -> None:
        """Append. Raises OSError; a line that was begun is then ended by the next write."""
        written = 0
        try:
            if not self._is_there():
                self._begin_anew()
            lines = self._rest + lines
            while written < len(lines):
                written += os.write(self._file, lines[written:])
        except OSError:
            self._give_up(lines, written)
            raise
        self._rest = b""

    def _begin_anew(self) -> None:
        self.lost += self._rest.count(b"\n")
        self._rest = b""
        self.close()
        self.open()

    def _give_up(self, lines: bytes, written: int) -> None:
        """Keep the rest of the line that is half written, if one is; the others are lost."""
        is_half = lines[written - 1 : written] != b"\n" if written else bool(self._rest)
        end = lines.index(b"\n", written) + 1 if is_half else written
        self._rest = lines[written:end]
        self.lost += lines.count(b"\n", end)

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

    def __init__(self) -> None:
        self.lost = 0

    def open(self) -> None:
        """It is open."""

    def write(self, lines: bytes) -> None:
        """Write. Raises OSError, and ValueError where standard output is closed."""
        waiting = lines.decode().splitlines(keepends=True)
        written = 0
        try:
            # One at a time: what is short stays together also where processes share a pipe.
            for line in waiting:
                sys.stdout.write(line)
                sys.stdout.flush()
                written += 1
        finally:
            self.lost += len(waiting) - written

    def close(self) -> None:
        """It stays open."""
