"""Object stores and HDFS, through the file systems of fsspec."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs
from fsspec.spec import AbstractFileSystem

from serving.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from serving.core.extras import remedy
from serving.sources.archive import archive_version, is_archive
from serving.sources.storage import Digest, StoredFile, scheme_of

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
"""Scheme → the optional dependency (an extra) that brings the library to read it."""

_LOOK_TIMEOUT_SECONDS = 10
_READ_TIMEOUT_SECONDS = 300
_PART_BYTES = 8 * 2**20
_PARTS_AT_ONCE = 4
_TAGS = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "updated")
_TIMES = ("LastModified", "last_modified", "mtime")
_MD5_ENCRYPTIONS = (None, "AES256")


class FsspecStorage:
    """``s3://``, ``gs://``, ``abfs://`` and ``hdfs://``. Thread-safe.

    Credentials, regions and endpoints are those of the library of each store: environment,
    configuration files, the machine's role.
    """

    def children(self, base_path: str) -> Mapping[str, str]:
        """As in :class:`Storage`; the address of an archive has one child, the archive."""
        if is_archive(base_path):
            self.files(base_path)
            return {archive_version(base_path): base_path}
        base_path = base_path.rstrip("/")
        with _translating(base_path):
            fs, root = _opened(base_path)
            found = fs.ls(root, detail=False, **_limit(fs, _LOOK_TIMEOUT_SECONDS))
        names = [_below(root, path).rstrip("/").partition("/")[0] for path in found]
        return {name: f"{base_path}/{name}" for name in names if name}

    def files(self, path: str) -> Sequence[StoredFile]:
        """As in :class:`Storage`; the empty objects that stand for directories are left out."""
        with _translating(path):
            fs, root = _opened(path)
            found = fs.find(root, detail=True, **_limit(fs, _LOOK_TIMEOUT_SECONDS))
        files = [
            _stored(path.rstrip("/"), _below(root, name), info)
            for name, info in sorted(found.items())
            if info.get("type") == "file" and not name.endswith("/")
        ]
        if not files:
            raise NotFound(f"{path} holds no files")
        return files

    def read(self, file: StoredFile, offset: int) -> Iterator[bytes]:
        """As in :class:`RemoteStorage`; a few parts are under way at the same time."""
        end = file.size_bytes or 0
        with _translating(file.uri):
            fs, path = _opened(file.uri)
            while offset < end:
                starts = list(range(offset, end, _PART_BYTES))[:_PARTS_AT_ONCE]
                ends = [min(start + _PART_BYTES, end) for start in starts]
                parts = fs.cat_ranges(
                    [path] * len(starts),
                    starts,
                    ends,
                    on_error="raise",
                    **_limit(fs, _READ_TIMEOUT_SECONDS),
                )
                for start, stop, part in zip(starts, ends, parts, strict=True):
                    yield part
                    if len(part) != stop - start:
                        return
                offset = ends[-1]

    def digest(self, file: StoredFile) -> Digest | None:
        """S3's SHA-256, or its etag where that is an MD5; Google's MD5."""
        extra = EXTRAS[scheme_of(file.uri)]
        with _translating(file.uri):
            fs, path = _opened(file.uri)
            if extra == "s3":
                return _s3_digest(fs, path)
            if extra == "gcs" and (md5 := fs.info(path).get("md5Hash")):
                return Digest("md5", base64.b64decode(md5))
        return None


def _opened(uri: str) -> tuple[AbstractFileSystem, str]:
    """The file system and its own name for the URI. Listings are not remembered in it: a poll
    wants to see what is there now. File systems themselves are, by fsspec.
    """
    if "::" in uri:  # to fsspec, that is one file system inside another
        raise InvalidArgument(f"{uri} holds '::', which no name in a remote base path may")
    # adlfs, which reads both, is known to fsspec under one name only until it is imported.
    scheme = scheme_of(uri).replace("abfss", "abfs")
    fs, path = url_to_fs(f"{scheme}://{uri.partition('://')[2]}", use_listings_cache=False)
    return fs, path


def _limit(fs: AbstractFileSystem, seconds: int) -> dict[str, int]:
    """The keyword that ends a call after this time, for the file systems that know it."""
    return {"timeout": seconds} if isinstance(fs, AsyncFileSystem) else {}


def _below(root: str, path: str) -> str:
    """The name relative to the root; "" for the root itself."""
    return path.removeprefix(root).removeprefix("/")


def _stored(uri: str, name: str, info: Mapping[str, Any]) -> StoredFile:
    tag = next((str(info[key]) for key in _TAGS if info.get(key) is not None), "")
    size = info.get("size")
    address = f"{uri}/{name}" if name else uri
    modified = next((time for key in _TIMES if isinstance(time := info.get(key), datetime)), None)
    return StoredFile(
        name,
        address,
        None if size is None else int(size),
        tag,
        modified.timestamp() if modified else None,
    )


def _s3_digest(fs: Any, path: str) -> Digest | None:
    """An etag is the MD5 of an object that was put in one piece and is not encrypted with a key
    of a customer or of KMS. A checksum with a dash is one of the parts' checksums.
    """
    bucket, _, key = path.partition("/")
    head = fs.call_s3("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    sha256 = head.get("ChecksumSHA256", "-")
    if "-" not in sha256:
        return Digest("sha256", base64.b64decode(sha256))
    etag = head.get("ETag", "").strip('"')
    plain = (
        head.get("ServerSideEncryption") in _MD5_ENCRYPTIONS and "SSECustomerAlgorithm" not in head
    )
    if plain and re.fullmatch(r"[0-9a-f]{32}", etag):
        return Digest("md5", bytes.fromhex(etag))
    return None


@contextmanager
def _translating(uri: str) -> Iterator[None]:
    """The errors of every store's library, in ours. What is not known is taken to pass."""
    try:
        yield
    except ServingError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{uri} is not there") from error
    except PermissionError as error:
        raise PermissionDenied(f"{uri} may not be read: {error}") from error
    except TimeoutError as error:
        raise Unavailable(f"{uri} does not answer") from error
    except ImportError as error:
        scheme = scheme_of(uri)
        raise FailedPrecondition(
            f"reading {scheme}:// needs a library that is not installed: {remedy(EXTRAS[scheme])}"
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise Unavailable(f"{uri} can not be read ({reason})") from error
