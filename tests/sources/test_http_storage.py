"""Archives on a real web server on loopback."""

from __future__ import annotations

import base64
import hashlib

import pytest
from remote_stores import CuttingProxy, WebServer

from serving.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unauthenticated,
    Unavailable,
)
from serving.sources.http_storage import HttpStorage
from serving.sources.storage import Digest, StoredFile, fingerprint

STORAGE = HttpStorage()
CONTENT = bytes(range(250)) * 20_000


@pytest.fixture
def url(web: WebServer) -> str:
    web.files["/models/7.tar.gz"] = CONTENT
    return f"{web.url}/models/7.tar.gz"


def test_an_archive_is_the_one_version_at_its_address(web: WebServer, url: str):
    assert STORAGE.children(url) == {"7": url}
    assert [method for method, _, _ in web.requests] == ["HEAD"]


def test_an_archive_that_is_not_there_yet_is_not_found(web: WebServer):
    with pytest.raises(NotFound, match=f"{web.address}/m.zip answered 404"):
        STORAGE.children(f"{web.url}/m.zip?signature=secret")


def test_a_web_address_of_anything_else_is_refused(web: WebServer):
    with pytest.raises(InvalidArgument, match="archive"):
        STORAGE.children(f"{web.url}/models/")
    assert web.requests == []


def test_the_file_has_size_and_etag_and_a_fingerprint_that_follows_it(web: WebServer, url: str):
    (file,) = STORAGE.files(url)
    assert (file.name, file.uri, file.size_bytes) == ("", url, len(CONTENT))
    before = fingerprint(STORAGE.files(url))
    web.files["/models/7.tar.gz"] = CONTENT[::-1]
    assert fingerprint(STORAGE.files(url)) != before


def test_without_an_etag_the_modification_time_identifies_the_content(web: WebServer, url: str):
    web.etags = False
    tags = []
    for date in ("Fri, 20 Nov 2026 10:00:00 GMT", "Sat, 21 Nov 2026 10:00:00 GMT"):
        web.headers = {"Last-Modified": date}
        tags.append(STORAGE.files(url)[0].tag)
    assert tags[0] != tags[1]
    assert STORAGE.files(url)[0].modified_seconds == 1795255200


@pytest.mark.parametrize("ranges", [True, False])
def test_where_head_is_refused_one_byte_is_asked_for(web: WebServer, url: str, ranges: bool):
    web.head, web.ranges = False, ranges
    (file,) = STORAGE.files(url)
    assert file.size_bytes == len(CONTENT)
    assert file.tag
    assert [method for method, _, _ in web.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("offset", [0, 1, 2_500_000])
def test_reading_begins_anywhere_also_where_the_server_knows_no_ranges(
    web: WebServer, url: str, ranges: bool, offset: int
):
    web.ranges = ranges
    assert b"".join(STORAGE.read(StoredFile("", url, None, ""), offset)) == CONTENT[offset:]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthenticated),
        (403, PermissionDenied),
        (404, NotFound),
        (410, NotFound),
        (418, FailedPrecondition),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_what_the_server_answers_becomes_the_error_with_that_meaning(
    web: WebServer, url: str, status: int, error: type[ServingError]
):
    web.status = status
    with pytest.raises(error, match=f"answered {status}"):
        STORAGE.files(url)


def test_a_server_that_is_not_there_is_unavailable(web: WebServer, url: str):
    web.close()
    with pytest.raises(Unavailable, match="Connection refused"):
        STORAGE.files(url)


def test_a_connection_that_is_closed_without_an_answer_is_unavailable(web: WebServer, url: str):
    proxy = CuttingProxy(web.url)
    proxy.cuts, proxy.after_bytes = 1, 0
    with pytest.raises(Unavailable, match="can not be read"):
        STORAGE.files(url.replace(web.url, proxy.url))
    proxy.close()


def test_an_address_that_is_none_is_refused():
    for url in ("http:///m.zip", "http://host:port/m.zip", "http://host:0/m.zip"):
        with pytest.raises(InvalidArgument, match=f"{url} is no web address"):
            STORAGE.files(url)


def test_a_user_in_the_address_is_authenticated_and_never_shown(web: WebServer, url: str):
    with_user = url.replace("://", "://me%40here:pass:word@")
    STORAGE.files(with_user)
    _, _, headers = web.requests[-1]
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"me@here:pass:word"
    assert headers["Host"] == web.address
    web.status = 401
    with pytest.raises(Unauthenticated) as raised:
        STORAGE.files(with_user)
    assert "pass" not in raised.value.message


def test_redirects_are_followed_but_the_password_is_not_passed_on(web: WebServer, url: str):
    elsewhere = WebServer()
    elsewhere.status, elsewhere.headers = 302, {"Location": url}
    elsewhere.files["/latest.tar.gz"] = b""
    (file,) = STORAGE.files(f"http://me:secret@{elsewhere.address}/latest.tar.gz")
    elsewhere.close()
    assert file.size_bytes == len(CONTENT)
    assert "Authorization" not in web.requests[-1][2]


SHA256, MD5 = hashlib.sha256(CONTENT).digest(), hashlib.md5(CONTENT).digest()


@pytest.mark.parametrize(
    ("header", "value", "digest"),
    [
        (
            "Repr-Digest",
            f"sha-512=:AAAA:, sha-256=:{base64.b64encode(SHA256).decode()}:",
            Digest("sha256", SHA256),
        ),
        ("X-Checksum-Sha256", SHA256.hex(), Digest("sha256", SHA256)),
        ("Content-MD5", base64.b64encode(MD5).decode(), Digest("md5", MD5)),
        ("Content-MD5", "what?", None),
        ("X-Checksum-Sha256", "abc", None),
        ("X-Other", "abc", None),
    ],
)
def test_checksum_headers_are_used(
    web: WebServer, url: str, header: str, value: str, digest: Digest | None
):
    web.headers = {header: value}
    assert STORAGE.digest(STORAGE.files(url)[0]) == digest
