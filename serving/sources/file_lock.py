"""A lock on a file: between threads, between processes, and gone when its holder dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from serving.core.errors import Unimplemented


class FileLock:
    """Held from :meth:`acquire` until :meth:`release`. Two locks of one process exclude each other
    like those of two processes; the kernel gives back what a killed process held.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, *, shared: bool, wait: bool) -> FileLock | None:
        """Take the lock, with or without others; None when it is taken and ``wait`` is false.

        The file is made when it is not there. Raises OSError when that is impossible, and
        Unimplemented on a system without such locks.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not _lock(descriptor, shared=shared, wait=wait):
                    os.close(descriptor)
                    return None
                if _is_same_file(path, descriptor):
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            # Whoever held it removed the file: this lock would exclude nobody.
            os.close(descriptor)

    def release(self) -> None:
        """Let others have it. Once."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Remove the file, then release; whoever waits makes a new one. Only when not shared."""
        self.path.unlink(missing_ok=True)
        self.release()


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _lock(descriptor: int, *, shared: bool, wait: bool) -> bool:  # noqa: ARG001  # as below
        raise Unimplemented("remote models need a system with POSIX file locks")

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool, wait: bool) -> bool:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
