"""Whether a version is complete, told by its files standing still or by a marker among them."""

from __future__ import annotations

import itertools
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.sources.storage import fingerprint, is_remote
from serving.sources.storages import storage_for


@dataclass(frozen=True, slots=True)
class Contents:
    """What a version holds, as far as a change of it can be seen from outside.

    ``newest_seconds`` is the latest modification time, in seconds since the epoch;
    ``touched_seconds`` that of the latest change of any kind to a local file, as a rename or new
    permissions are. ``fingerprint`` is what a remote store says of the files, which tells changes
    that sizes and times do not.
    """

    num_files: int
    size_bytes: int
    newest_seconds: float
    touched_seconds: float = 0.0
    fingerprint: str = ""


UNREADABLE = Contents(-1, -1, math.inf)
"""The contents of what can not be looked at, or changed while it was: no time says it is old."""


def contents_of(path: str) -> Contents:
    """Look at everything below ``path``, or at the file itself; links inside are not followed."""
    if is_remote(path):
        return _remote_contents_of(path)
    try:
        root = Path(path).stat()
        files, directories = [root], []
        if stat.S_ISDIR(root.st_mode):
            for directory, _, names in os.walk(path, onerror=_raise):
                directories.append(Path(directory).stat())
                files.extend(Path(directory, name).lstat() for name in names)
    except OSError:
        return UNREADABLE
    everything = files + directories
    return Contents(
        num_files=len(files),
        size_bytes=sum(status.st_size for status in files),
        newest_seconds=max(status.st_mtime for status in everything),
        touched_seconds=max(status.st_ctime for status in everything),
    )


def _remote_contents_of(uri: str) -> Contents:
    """The same of a version in a store; where the store tells no times, only our looks count."""
    try:
        files = storage_for(uri).files(uri)
    except ServingError:
        return UNREADABLE
    times = [file.modified_seconds for file in files if file.modified_seconds is not None]
    newest = max(times) if times and len(times) == len(files) else math.inf
    size = sum(file.size_bytes or 0 for file in files)
    return Contents(len(files), size, newest, fingerprint=fingerprint(files))


@dataclass(slots=True)
class _Watched:
    """A version that is complete, or on its way there; ``since`` when its contents are the same."""

    contents: Contents
    since: float
    revision: int
    is_complete: bool = False
    has_changed: bool = False


class VersionContents:
    """Tells complete versions from those still being copied.

    Thread-safe as long as one thread at a time looks at a path; looking may hang with the storage.

    A version is complete once nothing in it has changed for ``settle_seconds``, by its own
    modification times or by looks so far apart; 0 takes it at once. Where a ``marker`` is named, a
    version is complete when it holds a file of that name, however it looks otherwise. What can not
    be looked at for as long counts as complete: its load says what is wrong with it.
    """

    def __init__(self, clock: Clock, settle_seconds: float = 0.0, marker: str = "") -> None:
        self._clock = clock
        self._settle_seconds = settle_seconds
        self._marker = marker
        self._revisions = itertools.count()
        self._watched: dict[str, _Watched] = {}

    def is_complete(self, path: str) -> bool:
        """Whether the version at this path can be loaded.

        Once true it stays so until the version is forgotten, and costs nothing more.
        """
        watched = self._watched.get(path)
        if watched is None:
            watched = self._watched[path] = _Watched(
                contents_of(path), self._clock.monotonic(), next(self._revisions)
            )
        elif not watched.is_complete:
            self._look(path, watched)
        if not watched.is_complete:
            watched.is_complete = self._is_marked(path) if self._marker else self._settled(watched)
            watched.has_changed = False
        return watched.is_complete

    def revision(self, path: str) -> int:
        """Rises whenever there is reason to load this version again.

        One that went and came back has a higher one than before, whoever noticed that it went.
        """
        watched = self._watched.get(path)
        return watched.revision if watched else 0

    def look_again(self, path: str) -> None:
        """Revise a version whose load failed, when its files have changed and settled."""
        watched = self._watched.get(path)
        if watched is None or not watched.is_complete:
            return
        self._look(path, watched)
        if watched.has_changed and self._settled(watched):
            watched.has_changed = False
            watched.revision = next(self._revisions)

    def revise(self, path: str) -> None:
        """Somebody asked for the version to be tried again."""
        if watched := self._watched.get(path):
            watched.revision = next(self._revisions)

    def forget(self, path: str) -> None:
        """The version is gone; should it come back, it begins anew."""
        self._watched.pop(path, None)

    def _look(self, path: str, watched: _Watched) -> None:
        contents = contents_of(path)
        if contents != watched.contents:
            watched.contents, watched.since = contents, self._clock.monotonic()
            watched.has_changed = True

    def _settled(self, watched: _Watched) -> bool:
        by_its_times = self._clock.time() - watched.contents.newest_seconds
        by_our_looks = self._clock.monotonic() - watched.since
        return max(by_its_times, by_our_looks) >= self._settle_seconds

    def _is_marked(self, path: str) -> bool:
        if is_remote(path):
            return _holds(path, self._marker)
        try:
            (Path(path) / self._marker).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True


def _holds(uri: str, name: str) -> bool:
    try:
        return any(file.name == name for file in storage_for(uri).files(uri))
    except ServingError:
        return False


def _raise(error: OSError) -> None:
    raise error
