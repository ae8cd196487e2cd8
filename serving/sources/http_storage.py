"""Archives on web servers, read with the standard library: a bare install serves them."""

from __future__ import annotations

import base64
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Protocol, cast
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from serving.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unauthenticated,
    Unavailable,
)
from serving.sources.archive import archive_version, is_archive
from serving.sources.storage import Digest, StoredFile, without_secrets

_LOOK_TIMEOUT_SECONDS = 10.0
_READ_TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 2**20
_REFUSES_HEAD = {403, 405, 501}
_ERRORS: Mapping[int, type[ServingError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    408: Unavailable,
    410: NotFound,
    429: Unavailable,
}
_DIGESTS = (
    ("Repr-Digest", "sha256", r"\bsha-256=:([A-Za-z0-9+/]{43}=):", base64.b64decode),
    ("X-Checksum-Sha256", "sha256", r"^([0-9A-Fa-f]{64})$", bytes.fromhex),
    ("Content-MD5", "md5", r"^([A-Za-z0-9+/]{22}==)$", base64.b64decode),
)
"""Header, algorithm, where its digest stands in the header, and how it is written."""


class _Response(Protocol):
    status: int
    headers: http.client.HTTPMessage

    def read(self, size: int) -> bytes: ...


class HttpStorage:
    """``http://`` and ``https://`` addresses of archives, each one version. Thread-safe.

    Proxies come from the environment; a user and password in the address are sent as basic
    authentication, and not to where a redirect leads.
    """

    def children(self, base_path: str) -> Mapping[str, str]:
        """The one version there is; raises InvalidArgument for what is no archive.

        A web server has no listing that programs can rely on, so nothing else can be found.
        """
        if not is_archive(base_path):
            raise InvalidArgument(
                "a web address must be that of a .tar, .tar.gz, .tgz or .zip archive"
            )
        self._head(base_path)
        return {archive_version(base_path): base_path}

    def files(self, path: str) -> Sequence[StoredFile]:
        """The archive; ``tag`` is its ETag, or else Last-Modified."""
        headers = self._head(path)
        tag = headers.get("ETag") or headers.get("Last-Modified") or ""
        return [StoredFile("", path, _size(headers), tag, _modified(headers))]

    def read(self, file: StoredFile, offset: int) -> Iterator[bytes]:
        """As in :class:`RemoteStorage`; a server without ranges is asked for all, and skipped."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with _connected(file.uri, "GET", _READ_TIMEOUT_SECONDS, headers) as response:
            skip = offset if response.status != 206 else 0
            while chunk := response.read(_CHUNK_BYTES):
                skipped = min(skip, len(chunk))
                skip -= skipped
                yield chunk[skipped:]

    def digest(self, file: StoredFile) -> Digest | None:
        """From Repr-Digest (RFC 9530), X-Checksum-Sha256 (Artifactory) or Content-MD5."""
        headers = self._head(file.uri)
        for header, algorithm, pattern, decode in _DIGESTS:
            if found := re.search(pattern, headers.get(header, "")):
                return Digest(algorithm, decode(found[1]))
        return None

    def _head(self, url: str) -> http.client.HTTPMessage:
        """The headers; where HEAD is refused (addresses signed for GET), of a GET of one byte."""
        try:
            with _connected(url, "HEAD", _LOOK_TIMEOUT_SECONDS, {}) as response:
                return response.headers
        except ServingError as error:
            refused = error.__cause__
            if not isinstance(refused, urllib.error.HTTPError) or refused.code not in _REFUSES_HEAD:
                raise
        one_byte = {"Range": "bytes=0-0"}
        with _connected(url, "GET", _LOOK_TIMEOUT_SECONDS, one_byte) as response:
            return response.headers


def _size(headers: http.client.HTTPMessage) -> int | None:
    """The size of the whole content, also from the headers of a part."""
    whole = re.search(r"/([0-9]+)$", headers.get("Content-Range", ""))
    length = whole[1] if whole else headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _modified(headers: http.client.HTTPMessage) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Last-Modified", "")).timestamp()
    except ValueError:
        return None


@contextmanager
def _connected(
    url: str, method: str, timeout_seconds: float, headers: Mapping[str, str]
) -> Iterator[_Response]:
    """The response to one request; anything that goes wrong, now or while reading, translated."""
    shown = without_secrets(url)
    try:
        request = _request(url, method, headers)
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            yield cast(_Response, response)
    except urllib.error.HTTPError as error:
        error.close()
        kind = Unavailable if error.code >= 500 else _ERRORS.get(error.code, FailedPrecondition)
        raise kind(f"{shown} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise Unavailable(f"{shown} can not be read ({reason})") from error


def _has_host(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False


def _request(url: str, method: str, headers: Mapping[str, str]) -> urllib.request.Request:
    parts = urlsplit(url)
    if not _has_host(parts):
        raise InvalidArgument(f"{without_secrets(url)} is no web address")
    credentials, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        urlunsplit(parts._replace(netloc=host, fragment="")), headers=dict(headers), method=method
    )
    if credentials:
        encoded = base64.b64encode(unquote(credentials).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {encoded}")
    return request
