"""What HTTP/1.1 clients of every kind may send, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from http1_client import everything
from waiting import WAIT_SECONDS

from serving.transport.http_options import ENGINES, HTTPTOOLS, HttpOptions
from serving.transport.http_server import HttpServer

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
ENDED = b"GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def tell(scope, receive, send):
    """Answers with the method, the path, the names of the headers and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await asyncio.sleep(0)  # whatever came with the request has been parsed
    names = b",".join(sorted(name for name, _ in scope["headers"]))
    told = b"<%s %s [%s] %s>" % (scope["method"].encode(), scope["raw_path"], names, body)
    headers = [(b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told})


@contextlib.contextmanager
def connected(engine=HTTPTOOLS):
    server = HttpServer(HttpOptions("127.0.0.1", 0, engine=engine), tell)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), WAIT_SECONDS) as connection:
            yield connection
    finally:
        server.stop(0)


def told(answers):
    return [part.partition(b">")[0] for part in answers.split(b"<")[1:]]


def test_a_request_that_asks_for_http2_keeps_its_body():
    """So ask Java's client and curl --http2; the body must never be taken for a request."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /p HTTP/1.1\r\nHost: x\r\n" + H2C + b"Content-Length: %d\r\n\r\n" % len(body)
    expected = b"POST /p [connection,content-length,host,http2-settings] " + body
    with connected() as connection:
        connection.sendall((head + body) * 2 + ENDED)
        assert told(everything(connection))[:2] == [expected, expected]


@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
)
def test_a_request_that_asks_for_an_upgrade_may_come_byte_by_byte(upgrade, body):
    with connected() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /p HTTP/1.1\r\nHost: x\r\n" + upgrade + body:
            connection.sendall(bytes([byte]))
        connection.sendall(ENDED)
        first, last = told(everything(connection))
    assert first.startswith(b"POST /p [")
    assert first.endswith(b"] abc")
    assert last.startswith(b"GET /end")


def test_an_upgrade_on_a_connection_that_ends_is_ignored_too():
    head = b"POST /p HTTP/1.1\r\nUpgrade: h2c\r\nConnection: close, Upgrade\r\n"
    with connected() as connection:
        connection.sendall(head + b"Content-Length: 3\r\n\r\n")
        connection.sendall(b"abc")
        (answer,) = told(everything(connection))
    assert answer == b"POST /p [connection,content-length] abc"


def test_connect_is_refused_and_ends_the_connection():
    with connected() as connection:
        connection.sendall(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + ENDED)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not told(answer)


CHUNKED = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_trailers_are_no_headers(engine):
    with connected(engine) as connection:
        connection.sendall(CHUNKED + b"Content-Type: application/x-npy\r\n\r\n" + ENDED)
        first, _ = told(everything(connection))
    assert first == b"POST /p [host,transfer-encoding] abc"


@pytest.mark.parametrize("part", [b"x: " + b"v" * 8000 + b"\r\n", b"v" * 8000])
def test_trailers_without_an_end_end_the_connection(part):
    with connected() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(CHUNKED + b"x: ")
            for _ in range(100_000):
                connection.sendall(part)
            pytest.fail("the server takes whatever comes")
        connection.close()


def test_a_body_in_many_small_chunks_is_no_head():
    chunks = b"1\r\na\r\n" * 2**18
    with connected() as connection:
        connection.sendall(b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(chunks + b"0\r\n\r\n" + ENDED)
        first, _ = told(everything(connection))
    assert first.endswith(b"a" * 2**18)
