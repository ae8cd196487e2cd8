"""Where versions lie: one interface to directories, object stores and archives on web servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

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


def scheme_of(uri: str) -> str:
    """The part before ``://``, in small letters; "" for a path."""
    scheme, separator, _ = uri.partition("://")
    return scheme.lower() if separator else ""


def is_remote(uri: str) -> bool:
    """Whether this is a URI of anything but a local file."""
    return scheme_of(uri) not in {"", "file"}


def fingerprint(files: Sequence[StoredFile]) -> str:
    """64 hexadecimal digits that change when a file comes, goes or changes."""
    lines = [f"{file.name}\0{file.size_bytes}\0{file.tag}\n" for file in files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def without_secrets(uri: str) -> str:
    """The URI for logs and errors: without password, and without a web address's signature."""
    if scheme_of(uri) not in _WEB:
        return uri
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
