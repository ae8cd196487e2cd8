"""The REST gateway behind its servers, with clients that do not keep to the rules."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

import pytest
from fake_models import FakeModels
from waiting import WAIT_SECONDS

from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.testing import FakeServable, InlineExecutor
from serving.transport.http_options import ENGINES, HttpOptions
from serving.transport.http_server import HttpServer

MAX_BYTES = 2**20
TARGET = "/v1/models/m:predict"
BODY = b'{"instances": [1.0, 2.0]}'
HEAD = f"POST {TARGET} HTTP/1.1\r\nHost: x\r\n".encode()


@pytest.fixture(scope="module", params=ENGINES)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    api = RestApi(
        FakeModels(FakeServable()),
        executor=InlineExecutor(),
        options=RestOptions(max_body_bytes=MAX_BYTES),
    )
    server = HttpServer(HttpOptions("127.0.0.1", 0, engine=request.param), api)
    server.start()
    yield server.port
    server.stop(0)


@pytest.fixture(autouse=True)
def serves_on(port: int) -> Iterator[None]:
    """Whatever a client does, others are served after it."""
    yield
    with closing(HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)) as connection:
        connection.request("POST", TARGET, BODY)
        assert json.load(connection.getresponse()) == {"predictions": [2.5, 3.0]}


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)


def status_of(client: socket.socket) -> int:
    """Of the next answer; nothing after it is read."""
    return int(client.makefile("rb").readline().split()[1])


def test_a_length_that_is_too_large_is_refused_before_the_body_is_sent(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BYTES + 1))
        assert status_of(client) == 413


def test_a_body_without_an_end_is_refused_when_it_is_too_large(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%s\r\n" % (MAX_BYTES // 4, bytes(MAX_BYTES // 4))
        for _ in range(5):
            client.sendall(chunk)
        assert status_of(client) == 413


def test_a_large_body_that_is_refused_is_not_kept(port: int) -> None:
    """A hundred megabytes, to a server in this process, which takes a tenth of that more."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = bytes(MAX_BYTES)
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    with closing(connection):
        try:
            connection.request("POST", TARGET, iter([chunk] * 100), encode_chunked=True)
        except OSError:
            pass  # the server need not take what it has refused
        else:
            assert connection.getresponse().status == 413
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 2**10


def test_a_slow_body_is_waited_for(port: int) -> None:
    with connected(port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
        for at in range(len(request)):
            client.sendall(request[at : at + 1])
        assert status_of(client) == 200


@pytest.mark.parametrize("sent", [0, 5])
def test_a_client_that_leaves_before_the_end_of_its_body_is_forgotten(port: int, sent: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:sent])


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"POST  HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_or_cut_off(port: int, request_bytes: bytes) -> None:
    """Never answered as if it were right, nor held to be a mistake of the server's."""
    with connected(port) as client:
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        answer = client.makefile("rb").readline()
    assert answer == b"" or 400 <= int(answer.split()[1]) < 500


def test_many_requests_at_once_on_one_connection_are_answered_in_order(port: int) -> None:
    """HTTP/1.1 pipelining."""
    with connected(port) as client:
        for number in range(20):
            body = b'{"instances": [%d]}' % number
            client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answers = client.makefile("rb")
        for number in range(20):
            length = 0
            while line := answers.readline().strip():
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            assert json.loads(answers.read(length)) == {"predictions": [number / 2 + 2]}


@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["many headers", "one header"])
def test_a_head_that_does_not_end_is_cut_off(port: int, end: bytes) -> None:
    """And not kept: no limit to bodies would help against that."""
    line = b"x-y: " + b"z" * 2**16
    with connected(port) as client:
        client.sendall(HEAD + b"x-y: ")
        refused = False
        for _ in range(1000):
            try:
                client.sendall(line + end)
            except OSError:
                refused = True
                break
        assert refused
