"""Copies of remote versions on this machine's disk, made once and kept while there is room."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serving.core.clock import Clock
from serving.core.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from serving.sources.archive import content_root, is_archive, relative_parts, unpack
from serving.sources.cache_directory import CONTENT, CacheDirectory, Entry
from serving.sources.download import download
from serving.sources.file_lock import FileLock
from serving.sources.storage import (
    RemoteStorage,
    StoredFile,
    fingerprint,
    without_secrets,
)
from serving.sources.storages import remote_storage_for

log = logging.getLogger(__name__)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SECONDS_BETWEEN_ATTEMPTS = 0.5


@dataclass(frozen=True, slots=True)
class ModelCacheOptions:
    """Options of ModelCache. Raises InvalidArgument for a negative limit.

    ``directory`` "" is ``model_server`` in the user's cache directory: ``$XDG_CACHE_HOME``, or
    ``~/.cache``, or ``/var/cache`` for a user without a home. ``max_bytes`` limits the complete and
    the arriving copies together; 0: the disk is the limit.
    """

    directory: str = ""
    max_bytes: int = 0

    def __post_init__(self) -> None:
        if self.max_bytes < 0:
            raise InvalidArgument(f"model_cache_max_bytes must be at least 0, not {self.max_bytes}")

    @property
    def path(self) -> Path:
        """The directory that is used."""
        if self.directory:
            return Path(self.directory)
        return Path(os.environ.get("XDG_CACHE_HOME") or _cache_at_home(), "model_server")


class LocalCopy:
    """A lease on a copy: ``path`` stays as it is until :meth:`release`. Thread-safe."""

    def __init__(self, path: str, release: Callable[[], None]) -> None:
        self.path = path
        self._release: Callable[[], None] | None = release
        self._lock = threading.Lock()

    def release(self) -> None:
        """Allow the copy to be evicted. Idempotent."""
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            release()


class ModelCache:
    """Hands out local copies of remote versions. Thread-safe, and shared between processes.

    A copy is found by its address and by what the store says of its files (sizes, etags,
    modification times), so a version that changed in its place is another copy, and one that did
    not is never downloaded twice: who asks for a copy that is being made waits for it. Copies in
    use are never evicted; of the others, the least recently used go first. The directory is made
    when the first copy is.
    """

    def __init__(
        self,
        options: ModelCacheOptions,
        clock: Clock,
        storage_for: Callable[[str], RemoteStorage] = remote_storage_for,
    ) -> None:
        self._options = options
        self._clock = clock
        self._storage_for = storage_for
        self._directory = CacheDirectory(options.path)
        self._stopping = threading.Event()
        self._reserved: dict[str, int] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Remove what downloads have left that never ended: those of processes that were killed.

        What other processes are downloading now is left alone. Where nothing can be removed, that
        is logged: there may be no remote model at all, and one that needs the cache says so.
        """
        try:
            self._directory.sweep()
        except OSError as error:
            log.warning("model cache %s is not cleaned: %s", self._directory.root, error.strerror)

    def stop(self) -> None:
        """End the downloads in progress, and allow no more; each raises Cancelled."""
        self._stopping.set()

    def size_bytes(self, uri: str) -> int:
        """What the files of the version add up to in their store; for an archive, its own size.

        Raises what the store says, as :meth:`lease`.
        """
        return _known_bytes(self._storage_for(uri).files(uri))

    def lease(self, uri: str) -> LocalCopy:
        """The copy of the version at ``uri``, downloaded if need be; blocks meanwhile.

        Raises NotFound, PermissionDenied, Unauthenticated and Unavailable for what the store
        says, Unavailable too for transfers cut again and again and for a version that changes
        meanwhile; DataLoss for content with the wrong checksum or a damaged archive;
        InvalidArgument for names or archives that are refused; ResourceExhausted when there is
        no room; FailedPrecondition when the directory cannot be used; Cancelled after
        :meth:`stop`. Whatever is raised, no part of the version stays behind.
        """
        storage = self._storage_for(uri)
        files = storage.files(uri)
        key = hashlib.sha256(f"{uri}\n{fingerprint(files)}".encode()).hexdigest()
        with self._translating(uri, _known_bytes(files)):
            self._directory.create()
            while True:
                if copy := self._find(key):
                    return copy
                # Not waited for: whoever leases a copy that was just made holds the lock for as
                # long as the model is loaded. The look above waits for those who make it.
                if lock := self._directory.lock(key, shared=False, wait=False):
                    self._make(key, lock, uri, storage, files)

    def _find(self, key: str) -> LocalCopy | None:
        """A lease on the copy, if there is one. Waits while it is being made."""
        lock = self._directory.lock(key, shared=True)
        if lock is None:
            raise AssertionError("unreachable: the lock was waited for")
        try:
            entry = self._directory.find(key)
            if entry is not None:
                self._directory.touch(key)
                return LocalCopy(str(entry.path), partial(self._release, entry, lock))
        except BaseException:
            lock.release()
            raise
        lock.release()
        return None

    def _release(self, entry: Entry, lock: FileLock) -> None:
        self._directory.touch(entry.key)
        lock.release()

    def _make(
        self,
        key: str,
        lock: FileLock,
        uri: str,
        storage: RemoteStorage,
        files: Sequence[StoredFile],
    ) -> None:
        """Download the copy, unless another did so since the look; gives the lock back."""
        try:
            if self._directory.find(key) is None:
                self._pause(0)
                self._download(key, uri, storage, files)
        finally:
            self._directory.abandon(key)
            with self._lock:
                self._reserved.pop(key, None)
            if self._directory.find(key) is None:
                lock.remove()
            else:
                lock.release()

    def _download(
        self, key: str, uri: str, storage: RemoteStorage, files: Sequence[StoredFile]
    ) -> None:
        shown, size_bytes = without_secrets(uri), _known_bytes(files)
        log.info("downloading %s: %d files, %d bytes", shown, len(files), size_bytes)
        began = self._clock.monotonic()
        targets = _targets(files)
        self._reserve(key, uri, size_bytes)
        begun = self._directory.begin(key)
        arriving = begun / ("archive" if is_archive(uri) else CONTENT)
        for file, parts in targets:
            download(storage, file, arriving.joinpath(*parts), self._pause)
        if fingerprint(storage.files(uri)) != fingerprint(files):
            raise Unavailable(f"{shown} changed while it was downloaded")
        content = begun / CONTENT
        if is_archive(uri):
            packed = arriving.stat().st_size
            unpack(
                arriving, uri, content, lambda more: self._reserve(key, uri, packed + more, packed)
            )
            arriving.unlink()
        self._directory.commit(key, shown, content_root(content) if is_archive(uri) else content)
        log.info("downloaded %s in %.1f s", shown, self._clock.monotonic() - began)

    def _pause(self, failures: int) -> None:
        self._clock.wait(self._stopping, failures * _SECONDS_BETWEEN_ATTEMPTS)
        if self._stopping.is_set():
            raise Cancelled("the download was cancelled: the server stops")

    def _reserve(self, key: str, uri: str, size_bytes: int, here_bytes: int = 0) -> None:
        """See that there is room for ``size_bytes`` in all for this copy; evict others for it.

        ``here_bytes`` of them are on the disk already.
        """
        with self._lock:
            self._reserved[key] = size_bytes
        if 0 < self._options.max_bytes < size_bytes:
            raise self._no_room(uri, size_bytes)
        for entry in self._directory.entries():
            if self._has_room(size_bytes - here_bytes):
                return
            if self._directory.evict(entry.key):
                log.info("evicted %d bytes from the model cache", entry.size_bytes)
        if not self._has_room(size_bytes - here_bytes):
            raise self._no_room(uri, size_bytes)

    def _has_room(self, missing_bytes: int) -> bool:
        with self._lock:
            arriving = sum(self._reserved.values())
        kept = sum(entry.size_bytes for entry in self._directory.entries())
        within_limit = not self._options.max_bytes or kept + arriving <= self._options.max_bytes
        return within_limit and missing_bytes <= shutil.disk_usage(self._directory.root).free

    def _no_room(self, uri: str, size_bytes: int) -> ResourceExhausted:
        limit = f"limit {self._options.max_bytes} bytes" if self._options.max_bytes else "no limit"
        return ResourceExhausted(
            f"there is no room in the model cache {self._directory.root} ({limit}) for"
            f" {without_secrets(uri)}, which needs {size_bytes} bytes"
        )

    @contextmanager
    def _translating(self, uri: str, size_bytes: int) -> Iterator[None]:
        """Whatever OSError is left by now is the cache directory's."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise self._no_room(uri, size_bytes) from error
            raise FailedPrecondition(
                f"the model cache {self._directory.root} can not be used ({error.strerror});"
                " choose another with --model_cache_dir"
            ) from error


def _cache_at_home() -> Path:
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # in a container whose user nobody knows
        return Path("/var/cache")


def _known_bytes(files: Sequence[StoredFile]) -> int:
    return sum(file.size_bytes or 0 for file in files)


def _targets(files: Sequence[StoredFile]) -> list[tuple[StoredFile, tuple[str, ...]]]:
    """Where each file goes, below the content; raises InvalidArgument for names that go astray."""
    targets = [(file, relative_parts(file.name) if file.name else ()) for file in files]
    taken = {parts for _, parts in targets}
    for file, parts in targets:
        if any(parts[:depth] in taken for depth in range(len(parts))):
            raise InvalidArgument(f"{file.uri} lies below what is a file itself")
    if len(taken) < len(files):
        raise InvalidArgument("two objects of the version go by one name")
    return targets
