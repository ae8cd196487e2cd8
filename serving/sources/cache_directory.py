"""What a model cache looks like on disk, and the steps that change it, each all or nothing.

::

    <key>/content        a version: a directory, or a file
    <key>/entry.json     where it came from, its size, where in the content the model begins
    <key>.lock           held shared while a server uses the entry, alone while one is made or
                         removed; its modification time is the entry's last use
    <key>.partial/       on its way in or out; whoever holds the lock works on it
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.sources.file_lock import FileLock

_LOCK, _PARTIAL, _MANIFEST, CONTENT = ".lock", ".partial", "entry.json", "content"
_OWN = re.compile(r"[0-9a-f]{64}(\.lock|\.partial)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One complete version. ``path`` is what a platform loads; ``used_seconds`` since the epoch."""

    key: str
    path: Path
    size_bytes: int
    used_seconds: float


class CacheDirectory:
    """The files of a cache, shared with every process that uses the directory. Thread-safe.

    Nothing is made before :meth:`create`. Methods raise OSError.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self) -> None:
        """Make the directory, for this user alone, unless it is there."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self, key: str, *, shared: bool, wait: bool = True) -> FileLock | None:
        """The lock of one entry, whether it exists or not."""
        return FileLock.acquire(self._lock_path(key), shared=shared, wait=wait)

    def find(self, key: str) -> Entry | None:
        """The entry, if it is complete and can be read. It may vanish unless its lock is held."""
        try:
            manifest = json.loads((self.root / key / _MANIFEST).read_text(encoding="utf-8"))
            path = self.root / key / CONTENT / manifest["model"]
            size_bytes = int(manifest["size_bytes"])
            used = self._lock_path(key).stat().st_mtime
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return Entry(key, path, size_bytes, used)

    def entries(self) -> Sequence[Entry]:
        """All complete entries, the least recently used first."""
        keys = [path.name for path in self._listed() if not path.suffix]
        found = [entry for key in keys if (entry := self.find(key))]
        return sorted(found, key=lambda entry: entry.used_seconds)

    def touch(self, key: str) -> None:
        """The entry is used now. Under its lock; one removed by hand is left at that."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._lock_path(key))

    def begin(self, key: str) -> Path:
        """An empty directory to make the entry in. Under its lock, not shared."""
        partial = self._partial_path(key)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        return partial

    def commit(self, key: str, uri: str, model: Path) -> None:
        """Make what was begun the entry, all at once, and on disk before that.

        ``model`` is the path that a platform loads, in the directory that :meth:`begin` gave.
        """
        partial = self._partial_path(key)
        content = partial / CONTENT
        manifest = {
            "uri": uri,
            "size_bytes": _size_bytes(content),
            "model": "" if model == content else model.relative_to(content).as_posix(),
        }
        with (partial / _MANIFEST).open("w", encoding="utf-8") as out:
            json.dump(manifest, out)
            out.flush()
            os.fsync(out.fileno())
        for folder, _, _ in os.walk(partial):
            _sync_directory(Path(folder))
        shutil.rmtree(self.root / key, ignore_errors=True)  # of a disk that lost what it held
        partial.rename(self.root / key)
        _sync_directory(self.root)

    def abandon(self, key: str) -> None:
        """Remove what was begun and is not committed. Under the lock, not shared."""
        shutil.rmtree(self._partial_path(key), ignore_errors=True)

    def evict(self, key: str) -> bool:
        """Remove an entry, unless somebody uses it; whether it is gone."""
        lock = self.lock(key, shared=False, wait=False)
        if lock is None:
            return False
        if (self.root / key).exists():
            # Renamed first: half an entry must not be found, even after a crash.
            self.abandon(key)
            (self.root / key).rename(self._partial_path(key))
        self.abandon(key)
        lock.remove()
        return True

    def sweep(self) -> None:
        """Remove what dead processes and disks have left: partial entries, locks of nothing."""
        for path in self._listed():
            if not self.find(path.stem):
                self.evict(path.stem)

    def _listed(self) -> Sequence[Path]:
        """What is a cache's own: a directory may hold other things, which are left alone."""
        found = self.root.iterdir() if self.root.exists() else ()
        return [path for path in found if _OWN.fullmatch(path.name)]

    def _lock_path(self, key: str) -> Path:
        return self.root / f"{key}{_LOCK}"

    def _partial_path(self, key: str) -> Path:
        return self.root / f"{key}{_PARTIAL}"


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(
        Path(folder, name).stat().st_size for folder, _, names in os.walk(path) for name in names
    )


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
