"""Files that end when they are large or old, of which the oldest are deleted."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from io import FileIO
from itertools import count
from pathlib import Path

from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition
from serving.request_logging.log_file_names import log_file, log_files
from serving.request_logging.request_log_options import RequestLogOptions

log = logging.getLogger(__name__)

_file_numbers = count()
"""For the whole process, as two logs may have the same prefix in the same second."""


class RotatingFiles:
    """Appends to ``PREFIX-TIME-HOST-PID-NUMBER.SUFFIX``, and goes on to another such file.

    No two processes write to the same file, on whichever machines they are. Not thread-safe.
    """

    def __init__(self, prefix: str, suffix: str, options: RequestLogOptions, clock: Clock) -> None:
        self._prefix = Path(prefix)
        self._suffix = suffix
        self._options = options
        self._clock = clock
        self._file: FileIO | None = None
        self._size = 0
        self._since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether there is a file that has not ended."""
        return self._file is not None

    def write(self, data: bytes) -> None:
        """Append it, whole or not at all; raises OSError where that fails.

        Half of it stays where not even that can be undone; then the file has ended.
        """
        self.close_if_over()
        if self._file is not None and self._size + len(data) > self._options.max_file_bytes:
            self.close()
        file = self._file or self._open()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            self._undo(file)
            raise
        self._size += len(data)

    def _undo(self, file: FileIO) -> None:
        """Leave nothing of the write that failed, or no place where another could follow it."""
        try:
            file.truncate(self._size)
            file.seek(self._size)
        except OSError:
            with suppress(OSError):
                self.close()

    def close_if_over(self) -> None:
        """End the file where its time is over, or it was deleted and takes room all the same."""
        if self._file is None:
            return
        is_old = self._clock.monotonic() - self._since >= self._options.max_file_seconds
        if is_old or not os.fstat(self._file.fileno()).st_nlink:
            self.close()

    def close(self) -> None:
        """End the file; what is written next begins another."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _open(self) -> FileIO:
        path = log_file(self._prefix, self._suffix, self._clock.time(), next(_file_numbers))
        self._make_room()
        self._file = FileIO(path, "x")
        self._size = 0
        self._since = self._clock.monotonic()
        return self._file

    def _make_room(self) -> None:
        """Delete the oldest files until another one has room below the limit."""
        options = self._options
        if not options.max_total_bytes:
            return
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total + options.max_file_bytes <= options.max_total_bytes:
                break
            with suppress(FileNotFoundError):  # another process was quicker
                path.unlink()
                log.info("request log %s was deleted: there is no room for more", path)
            total -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each file of the prefix was last written to, its size, and itself."""
        found = []
        for path in log_files(self._prefix, [self._suffix]):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found


def check_writable(prefix: str) -> None:
    """Make the directory of a prefix, if need be, and raise FailedPrecondition where it is not to
    be written to.
    """
    folder = Path(prefix).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FailedPrecondition(f"{folder} can not be written to: {error.strerror}") from None
