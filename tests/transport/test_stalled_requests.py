"""Requests that stop coming end their connections, and no others do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from functools import partial

import h2.events
import pytest
from http1_client import everything
from http2_client import raw_client
from waiting import WAIT_SECONDS, await_

from serving.transport import stalled_body
from serving.transport.http1_connection import Connection
from serving.transport.http1_patience import LOOKS
from serving.transport.http_options import ENGINES, HTTPTOOLS, HYPERCORN, HttpOptions
from serving.transport.http_server import HttpServer
from serving.transport.tls import Certificate, TlsOptions

SHORT_SECONDS = 0.5
HEAD = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"
LAST = HEAD.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
CHUNKED = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


class App:
    """Answers with the body; remembers what becomes of requests that are not whole."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.num_come = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def has_come(self, num_bytes) -> bool:
        return self.num_come >= num_bytes

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body += message.get("body", b"")
            self.num_come = len(body)
            more = message.get("more_body", False)
        await wait_for(self.go_on)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def wait_for(event: threading.Event) -> None:
    await asyncio.get_running_loop().run_in_executor(None, event.wait, WAIT_SECONDS)


@contextlib.contextmanager
def serving(app, engine=HTTPTOOLS, seconds=SHORT_SECONDS, certificate=None, rate=0):
    options = HttpOptions(
        "127.0.0.1",
        0,
        engine=engine,
        receive_timeout_seconds=seconds,
        min_body_bytes_per_second=rate,
    )
    server = HttpServer(options, app, certificate=certificate)
    server.start()
    try:
        yield server.port
    finally:
        app.go_on.set()
        server.stop(0)


def connected(port):
    return socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sent", [HEAD, HEAD + b"abc", CHUNKED], ids=["none", "length", "chunks"])
def test_a_body_that_stops_coming_is_answered_408_and_the_app_told_that_the_client_left(
    engine, sent
):
    app = App()
    with serving(app, engine) as port, connected(port) as connection:
        connection.sendall(sent)
        answer = everything(connection)
        assert app.left.wait(WAIT_SECONDS)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert body == b"The request body stopped coming."


def test_the_app_is_told_over_http2_too_before_the_stream_ends():
    app = App()
    with serving(app, HYPERCORN) as port, raw_client(port) as client:
        client.open("/p", ("content-length", "6"))
        client.flush()
        assert app.left.wait(WAIT_SECONDS)
        statuses = []
        for event in client.events():
            statuses += [
                value for name, value in getattr(event, "headers", ()) if name == ":status"
            ]
            if isinstance(event, h2.events.StreamReset):
                break
    assert statuses == ["408"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_body_that_drips_in_is_answered_408(engine):
    """It never pauses; it only is far from what it must bring."""
    app = App()
    head = HEAD.replace(b"6", b"9" * 9)
    with serving(app, engine, seconds=1, rate=10**6) as port, connected(port) as connection:
        connection.sendall(head)
        connection.settimeout(0.02)
        for _ in range(50 * WAIT_SECONDS):
            try:
                connection.sendall(b"y")
                assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("the connection is kept")
        assert app.left.wait(WAIT_SECONDS)


@pytest.mark.parametrize("part", [b"abcde", b"a"], ids=["enough", "too little"])
def test_a_connection_gives_a_body_as_long_again_whenever_it_has_brought_enough(part, monkeypatch):
    """Looked at as often, after each part, as a body is that pauses as long as it may."""
    connections, app = [], App()
    monkeypatch.setattr(Connection, "_look_later", lambda self: connections.append(self))  # noqa: PLW0108 - a method
    options = HttpOptions("127.0.0.1", 0, receive_timeout_seconds=1, min_body_bytes_per_second=5)
    server = HttpServer(options, app)
    server.start()

    def look_as_often_as_it_may_pause():
        looked = threading.Event()
        for _ in range(LOOKS):
            server.call_soon(connections[0]._look)
        server.call_soon(looked.set)
        assert looked.wait(WAIT_SECONDS)

    with connected(server.port) as connection:
        connection.sendall(LAST.replace(b"6", b"%d" % (3 * len(part))))
        for num_bytes in (len(part), 2 * len(part)):
            connection.sendall(part)
            await_(partial(app.has_come, num_bytes))
            look_as_often_as_it_may_pause()
        if not connections[0]._transport.is_closing():
            connection.sendall(part)
        answer = everything(connection)
    server.stop(0)
    assert answer.startswith(b"HTTP/1.1 200 " if len(part) > 1 else b"HTTP/1.1 408 ")


@pytest.mark.parametrize("part", [b"abcde", b"a"], ids=["enough", "too little"])
def test_the_app_within_a_time_gives_a_body_as_long_again_whenever_it_has_brought_enough(part):
    """By a clock that goes on while a part is waited for, and at no other time."""
    now = [0.0]

    async def receive():
        now[0] += 0.9
        for _ in range(3):
            await asyncio.sleep(0)
        return {"type": "http.request", "body": part, "more_body": now[0] < 3}

    async def answer():
        asyncio.get_running_loop().time = lambda: now[0]
        sent = []

        async def send(message):
            sent.append(message)

        app = stalled_body.within(App(), 1, 5)
        await app({"type": "http", "http_version": "2"}, receive, send)
        return sent[0]["status"]

    assert asyncio.run(answer()) == (200 if len(part) > 1 else 408)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sent", [b"", b"PO", HEAD[:-2]], ids=["nothing", "a part", "no end"])
def test_a_head_that_stops_coming_ends_the_connection_without_an_answer(engine, sent, monkeypatch):
    """On hypercorn after the time that an idle connection has."""
    monkeypatch.setattr("hypercorn.config.Config.keep_alive_timeout", SHORT_SECONDS)
    with serving(App(), engine) as port, connected(port) as connection:
        connection.sendall(sent)
        assert everything(connection) == b""


def test_a_head_that_drips_in_ends_its_connection():
    """Byte by byte, as Slowloris sends it: all of it has as long as one pause."""
    with serving(App(), seconds=1) as port, connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        connection.settimeout(0.02)
        for _ in range(50 * WAIT_SECONDS):
            try:
                connection.sendall(b"y")
                assert connection.recv(1) == b""
                return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("the connection is kept")


def test_a_head_that_stops_coming_on_a_connection_that_has_served_ends_it_too():
    with serving(App()) as port, connected(port) as connection:
        connection.sendall(HEAD + b"abcdef")
        connection.sendall(b"GET")
        assert everything(connection).endswith(b"abcdef")


@pytest.mark.parametrize("engine", ENGINES)
def test_others_are_served_beside_connections_that_stall(engine):
    with contextlib.ExitStack() as stalled, serving(App(), engine, seconds=WAIT_SECONDS) as port:
        for sent in (b"", b"POST", HEAD, CHUNKED) * 50:
            stalled.enter_context(connected(port)).sendall(sent)
        with connected(port) as connection:
            connection.sendall(LAST + b"abcdef")
            assert everything(connection).endswith(b"abcdef")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_that_takes_longer_is_waited_for(engine):
    """Only clients are hurried: the app takes until a stalled connection beside it has ended."""
    app = App()
    app.go_on.clear()
    with serving(app, engine) as port, connected(port) as slow:
        slow.sendall(LAST + b"abcdef")
        outlast_a_stalled_connection(port)
        app.go_on.set()
        assert everything(slow).endswith(b"abcdef")


def outlast_a_stalled_connection(port):
    for _ in range(3):
        with connected(port) as stalled:
            stalled.sendall(HEAD)
            assert b" 408 " in everything(stalled)


def test_a_request_is_answered_whatever_is_pipelined_behind_it():
    """Its answer takes longer than a body may pause; the 408 is for the other, whose body does."""
    app = App()
    app.go_on.clear()
    with serving(app) as port, connected(port) as connection:
        connection.sendall(HEAD + b"abcdef" + HEAD)
        outlast_a_stalled_connection(port)
        app.go_on.set()
        answers = everything(connection)
    first, second = answers.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert first.endswith(b"abcdef")
    assert second.startswith(b"408 ")


class LargeAnswer(App):
    """Answers at once, with more than the operating system keeps for a client."""

    num_bytes = 2**25

    async def __call__(self, scope, receive, send):
        if scope["method"] == "POST":
            await super().__call__(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % self.num_bytes)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.num_bytes)})


def is_cut(connection) -> bool:
    """Whether nobody listens any more: what is sent is refused then."""
    try:
        connection.sendall(b"\r\n")
    except (ConnectionError, ssl.SSLEOFError):
        return True
    return False


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kept", [b"keep-alive", b"close"])
def test_a_client_that_does_not_take_its_answer_is_cut_off(engine, kept):
    """Else both would stay for ever."""
    with serving(LargeAnswer(), engine) as port, connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: " + kept + b"\r\n\r\n")
        await_(lambda: is_cut(connection))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_does_not_take_its_answer_is_cut_off_with_tls_too(engine, new):
    pair = new.issue("server")
    certificate = Certificate(TlsOptions(pair.key, pair.cert))
    trust = ssl.create_default_context(cafile=new.cert_file)
    with (
        serving(LargeAnswer(), engine, certificate=certificate) as port,
        connected(port) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await_(lambda: is_cut(connection))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_takes_its_answer_bit_by_bit_gets_all_of_it(engine):
    """In more time than one that takes nothing has."""
    with serving(LargeAnswer(), engine, seconds=1) as port, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.settimeout(WAIT_SECONDS)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        others = threading.Thread(target=outlast_a_stalled_connection, args=(port,))
        others.start()
        num_bytes = 0
        while part := connection.recv(2**16):
            num_bytes += len(part)
            others.join(0.01)
        others.join()
    assert num_bytes > LargeAnswer.num_bytes


def test_a_client_that_thinks_between_its_requests_is_served_on():
    """Whenever it is looked at, as much may be on its way to it as the time before."""
    with serving(App()) as port, connected(port) as connection:
        others = threading.Thread(target=outlast_a_stalled_connection, args=(port,))
        others.start()
        while others.is_alive():
            connection.sendall(HEAD + b"abcdef")
            got = b""
            while not got.endswith(b"abcdef"):
                part = connection.recv(1000)
                assert part
                got += part
            others.join(0.01)


@pytest.mark.parametrize("nonsense", [b"\x00" * 9, b"GET / HTTP/1.1\r\nx: " + b"y" * 2**21])
def test_what_is_no_request_is_not_refused_in_place_of_the_one_before(nonsense):
    app = App()
    app.go_on.clear()
    with serving(app, seconds=0) as port, connected(port) as connection:
        connection.sendall(HEAD + b"abcdef")
        with contextlib.suppress(ConnectionError):
            connection.sendall(nonsense)
        assert everything(connection) == b""


def test_a_body_that_the_app_does_not_take_is_not_held_against_the_client():
    """It is the server then that has stopped reading."""
    taken = threading.Event()

    class Slow(App):
        async def __call__(self, scope, receive, send):
            if scope["path"] == "/slow":
                await wait_for(taken)
            await super().__call__(scope, receive, send)

    body = bytes(2**20)
    head = b"POST /slow HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(Slow(), seconds=2) as port, connected(port) as held_up:
        sending = threading.Thread(target=held_up.sendall, args=(head + body,))
        sending.start()
        for _ in range(2):
            with connected(port) as stalled:
                stalled.sendall(HEAD)
                assert b" 408 " in everything(stalled)
        taken.set()
        answer = everything(held_up)
        sending.join()
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_without_a_limit_nobody_is_hurried():
    """Nothing looks at the connection then, and the app is left as it is."""
    app = App()
    assert stalled_body.within(app, 0, 1) is app
    with serving(app, seconds=0) as port, connected(port) as connection:
        connection.sendall(LAST)
        connection.sendall(b"abcdef")
        assert everything(connection).endswith(b"abcdef")
