"""Bodies of REST requests and responses: how large they may be, and how they are compressed."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
import zstandard
from fake_models import FakeModels
from rest_exchange import ask

from serving.apis.tensorflow_serving.rest.content_coding import (
    LEAST_BYTES,
    decode,
    preferred_coding,
)
from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.testing import FakeServable, InlineExecutor

TARGET = "/v1/models/m:predict"
MAX_BYTES = 10_000
SMALL = b'{"instances": [1.0, 2.0]}'
LARGE = json.dumps({"instances": [1.0] * 1000}).encode()
TOO_LARGE = {"error": f"The request body is larger than {MAX_BYTES} bytes."}


@pytest.fixture
def api() -> RestApi:
    options = RestOptions(max_body_bytes=MAX_BYTES)
    return RestApi(FakeModels(FakeServable()), executor=InlineExecutor(), options=options)


@pytest.mark.parametrize("length", [str(MAX_BYTES + 1), "9" * 30])
def test_a_body_that_says_to_be_too_large_is_refused_unread(api, length):
    response = ask(api, "POST", TARGET, [SMALL], {"Content-Length": length})
    assert (response.status, json.loads(response.body), response.received) == (413, TOO_LARGE, 0)


def test_a_body_in_chunks_is_refused_with_the_one_that_is_too_much(api):
    response = ask(api, "POST", TARGET, [b" " * 4000] * 9)
    assert (response.status, json.loads(response.body), response.received) == (413, TOO_LARGE, 3)


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)]
)
def test_a_body_may_be_compressed_and_counts_as_what_comes_out(api, coding, compress):
    headers = {"Content-Encoding": coding}
    for padding, status in ((0, 200), (MAX_BYTES - len(SMALL), 200), (MAX_BYTES, 413)):
        body = compress(SMALL + b" " * padding)
        assert ask(api, "POST", TARGET, body, headers).status == status


def test_a_bomb_is_refused_and_not_unpacked(api):
    """A gigabyte of zeros in 32 KiB."""
    chunk = b"\0" * 2**20
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    bomb = b"".join(compressor.compress(chunk) for _ in range(1024)) + compressor.flush()
    api = RestApi(FakeModels(FakeServable()), executor=InlineExecutor())
    assert len(bomb) < 100_000
    assert ask(api, "POST", TARGET, bomb, {"Content-Encoding": "zstd"}).status == 413


def test_what_is_no_zstd_is_refused(api):
    response = ask(api, "POST", TARGET, SMALL, {"Content-Encoding": "zstd"})
    assert response.status == 400
    assert json.loads(response.body)["error"].startswith("The request body is not valid zstd: ")


@pytest.mark.parametrize(
    ("accepted", "coding", "expand"),
    [("gzip, deflate", "gzip", gzip.decompress), ("zstd, gzip", "zstd", zstandard.decompress)],
)
def test_an_answer_is_compressed_for_who_asks(api, accepted, coding, expand):
    plain = ask(api, "POST", TARGET, LARGE)
    response = ask(api, "POST", TARGET, LARGE, {"Accept-Encoding": accepted})
    assert response.headers["content-encoding"] == coding
    assert response.headers["content-length"] == str(len(response.body))
    assert len(response.body) < len(plain.body)
    assert expand(response.body) == plain.body


def test_only_what_may_be_compressed_varies(api):
    """Caches are told so of the large answer, however it is sent, and not of the small one."""
    large = ask(api, "POST", TARGET, LARGE)
    small = ask(api, "POST", TARGET, SMALL, {"Accept-Encoding": "gzip"})
    assert len(large.body) >= LEAST_BYTES > len(small.body)
    assert large.headers["vary"] == "Accept-Encoding"
    assert not {"vary", "content-encoding"} & small.headers.keys()


@pytest.mark.parametrize("accepted", ["gzip, deflate", "gzip, deflate, br, zstd", "*"])
def test_a_small_answer_is_not_compressed_for_clients_that_ask_for_it_by_themselves(api, accepted):
    """As python-requests does with every call: the answer of half plus two is the same to it."""
    plain = ask(api, "POST", TARGET, SMALL)
    response = ask(api, "POST", TARGET, SMALL, {"Accept-Encoding": accepted})
    assert (response.headers, response.body) == (plain.headers, plain.body)


@pytest.mark.parametrize("end", [1, -1])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_zstd_body_that_is_cut_short_is_refused(api, frames, end):
    """Half a document may be one, and mean something else."""
    body = zstandard.compress(SMALL) * frames
    headers = {"Content-Encoding": "zstd"}
    assert ask(api, "POST", TARGET, body, headers).status == 200
    refused = ask(api, "POST", TARGET, body[:end] if frames == 1 else body[:-1], headers)
    assert refused.status == 400
    assert b"The request body is not valid zstd: it ends too early" in refused.body


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/nowhere", 404),
        ("POST", "/v1/models/m:no_verb", 400),
        ("POST", f"/v1/models/m/versions/{2**64}:predict", 400),
        ("PUT", TARGET, 400),
        ("GET", "/v1/models", 200),
    ],
)
def test_a_body_that_nobody_reads_is_not_received(api, method, target, status):
    response = ask(api, method, target, [b"x"] * 9)
    assert (response.status, response.received) == (status, 0)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("GZip;Q=1", "gzip"),
        ("x-gzip", "gzip"),
        ("zstd;q=0.5, gzip;q=0.9", "gzip"),
        ("gzip, zstd", "zstd"),
        ("*", "gzip"),
        ("*, zstd;q=0.1", "gzip"),
        ("zstd, *", "zstd"),
        ("gzip;q=0, *", ""),
        ("*, zstd;q=0", "gzip"),
        ("*;q=0", ""),
        ("gzip;q=0, zstd;q=0.000", ""),
        ("gzip;q=0.5, identity", ""),
        ("gzip;q=0.5, identity;q=0.1", "gzip"),
        ("br, deflate", ""),
        ("gzip;q=nonsense", ""),
        ("", ""),
        (",;,=", ""),
    ],
)
def test_the_coding_with_the_highest_quality_is_taken(accepted, coding):
    assert preferred_coding(accepted) == coding


def test_of_many_small_members_little_is_read_twice(monkeypatch):
    """What follows a member is copied: in large pieces, that is most of the body each time."""
    given = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, *arguments):
            self._stream = real(*arguments)

        def decompress(self, chunk, most):
            given.append(len(chunk))
            return self._stream.decompress(chunk, most)

        def __getattr__(self, name):
            return getattr(self._stream, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    body = gzip.compress(b"a") * 5000
    assert decode(body, {b"content-encoding": b"gzip"}, 10**6) == b"a" * 5000
    assert sum(given) < 20 * len(body)
