"""Where versions lie: one interface to directories, object stores and archives on web servers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from serving.core.errors import InvalidArgument, NotFound

EXTRAS: Mapping[str, str] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "hdfs": "hdfs",
}
"""Scheme → the optional dependency (``model-server[…]``) that brings the library to read it."""

_WEB = ("http", "https")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a version.

    ``name`` is its path below the version's, with slashes; "" when the version is this one file.
    ``size_bytes`` is None where the store does not say. ``tag`` is what the store changes with
    the content: an etag, a generation or a modification time; "" where it has none of them.
    ``modified_seconds`` is the modification time since the epoch, where it is known.
    """

    name: str
    uri: str
    size_bytes: int | None
    tag: str
    modified_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """What a store says the content hashes to. ``algorithm`` is a name of hashlib."""

    algorithm: str
    value: bytes


class Storage(Protocol):
    """Lists. Thread-safe.

    Raises NotFound, PermissionDenied and Unavailable for what the store says, FailedPrecondition
    when the library that reads it is not installed; messages do not repeat secrets of the URI.
    """

    def children(self, base_path: str) -> Mapping[str, str]:
        """What lies directly below: name → path or URI. Object stores have no directories, so
        there the first component after the base path is a child.
        """

    def files(self, path: str) -> Sequence[StoredFile]:
        """Every file of the version at ``path``, by name; raises NotFound when there is none."""


class RemoteStorage(Storage, Protocol):
    """Lists, and hands the content out."""

    def read(self, file: StoredFile, offset: int) -> Iterator[bytes]:
        """The content from byte ``offset`` on, in chunks; may end early when a transfer is cut."""

    def digest(self, file: StoredFile) -> Digest | None:
        """What the store says the whole content hashes to, if it says so reliably."""


class LocalStorage:
    """Directories of this machine, as paths or ``file://`` URIs."""

    def children(self, base_path: str) -> Mapping[str, str]:
        base_path = _local_path(base_path)
        try:
            names = os.listdir(base_path)  # noqa: PTH208  # names are wanted, not paths
        except OSError as error:
            raise NotFound(str(error.strerror)) from error
        return {name: f"{base_path}/{name}" for name in names}

    def files(self, path: str) -> Sequence[StoredFile]:
        """As in :class:`Storage`; links are not followed, ``tag`` is the modification time."""
        root = Path(_local_path(path))
        try:
            found = [root] if root.is_file() else sorted(p for p in _walk(root) if p.is_file())
            return [_stored(root, file) for file in found]
        except OSError as error:
            raise NotFound(str(error.strerror)) from error


def storage_for(uri: str) -> Storage:
    """The storage that reads this path or URI; raises InvalidArgument for an unknown scheme."""
    return remote_storage_for(uri) if is_remote(uri) else LocalStorage()


def remote_storage_for(uri: str) -> RemoteStorage:
    """The storage that reads this URI; raises InvalidArgument for an unknown scheme.

    Each is imported when it is first needed: local paths cost neither fsspec nor HTTP.
    """
    scheme = _scheme(uri)
    if scheme in _WEB:
        from serving.sources.http_storage import HttpStorage  # noqa: PLC0415  # see above

        return HttpStorage()
    if scheme in EXTRAS:
        from serving.sources.fsspec_storage import FsspecStorage  # noqa: PLC0415  # see above

        return FsspecStorage()
    known = ", ".join(sorted({"file", *_WEB, *EXTRAS}))
    raise InvalidArgument(f"there is no storage for {scheme}://; there are: {known}")


def is_remote(uri: str) -> bool:
    """Whether this is a URI of anything but a local file."""
    return _scheme(uri) not in {"", "file"}


def fingerprint(files: Sequence[StoredFile]) -> str:
    """64 hexadecimal digits that change when a file comes, goes or changes."""
    lines = [f"{file.name}\0{file.size_bytes}\0{file.tag}\n" for file in files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def without_secrets(uri: str) -> str:
    """The URI for logs and errors: without password, and without a web address's signature."""
    if _scheme(uri) not in _WEB:
        return uri
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _scheme(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator else ""


def _local_path(path: str) -> str:
    return unquote(urlsplit(path).path) if _scheme(path) == "file" else path


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root, onerror=_raise):
        yield from (Path(folder, name) for name in names)


def _raise(error: OSError) -> None:
    raise error


def _stored(root: Path, file: Path) -> StoredFile:
    status = file.lstat()
    name = "" if file == root else file.relative_to(root).as_posix()
    tag = str(status.st_mtime_ns)
    return StoredFile(name, str(file), status.st_size, tag, status.st_mtime)
