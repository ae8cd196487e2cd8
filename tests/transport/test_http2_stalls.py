"""Streams of HTTP/2 whose clients do not go on end, and no others do."""

from __future__ import annotations

import contextlib
import threading

import h2.events
import pytest
from h2.errors import ErrorCodes
from http2_client import raw_client
from waiting import WAIT_SECONDS, await_

from serving.transport.http_options import HYPERCORN, HttpOptions
from serving.transport.http_server import HttpServer
from serving.transport.hypercorn_connection import _LOOKS, HypercornConnection

SHORT_SECONDS = 0.2
WINDOW = 65535  # of streams and of connections, until a client opens them


class App:
    """Has large answers, refuses uploads without a look at them, and echoes what is short."""

    large = bytes(2**25)

    def __init__(self) -> None:
        self.ended = threading.Semaphore(0)

    async def __call__(self, scope, receive, send):
        try:
            await self._answer(scope["path"], receive, send)
        finally:
            self.ended.release()

    async def _answer(self, path, receive, send):
        status, body = 200, self.large
        if path == "/refused":
            status, body = 413, b"too large"
        elif path == "/refused/at/length":
            status, body = 413, bytes(WINDOW + 9)
        elif path == "/echo":
            body, more = b"", True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                more = message.get("more_body", False)
        else:
            await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def has_ended(self) -> bool:
        return self.ended.acquire(timeout=WAIT_SECONDS)


@contextlib.contextmanager
def serving(app, seconds=SHORT_SECONDS):
    options = HttpOptions("127.0.0.1", 0, engine=HYPERCORN, receive_timeout_seconds=seconds)
    server = HttpServer(options, app)
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


@pytest.fixture
def app():
    return App()


@pytest.fixture
def client(app):
    with serving(app) as server, raw_client(server.port) as client:
        yield client


def opened(client, path, *, end=True):
    stream = client.open(path)
    if end:
        client.http2.end_stream(stream)
    client.flush()
    return stream


def events_of(client, stream, last):
    """What comes for the stream, up to the first event of the kind."""
    events = []
    for event in client.events():
        if getattr(event, "stream_id", None) == stream:
            events.append(event)
            if isinstance(event, last):
                return events
    pytest.fail("the connection has ended")


def answer_of(events):
    return b"".join(e.data for e in events if isinstance(e, h2.events.DataReceived))


def open_windows(client, stream, num_bytes):
    client.http2.increment_flow_control_window(num_bytes, stream)
    client.http2.increment_flow_control_window(num_bytes)
    client.flush()


def echoed(client):
    stream = client.open("/echo")
    client.http2.send_data(stream, b"abc", end_stream=True)
    client.flush()
    return answer_of(events_of(client, stream, h2.events.StreamEnded))


def test_a_stream_whose_answer_is_not_taken_is_reset_and_the_connection_stays(app, client):
    stream = opened(client, "/large")
    *taken, reset = events_of(client, stream, h2.events.StreamReset)
    assert len(answer_of(taken)) == WINDOW
    assert reset.error_code == ErrorCodes.CANCEL
    assert app.has_ended()
    client.http2.increment_flow_control_window(WINDOW)
    assert echoed(client) == b"abc"


def test_an_answer_is_not_kept_for_a_client_that_has_reset_its_stream(app, client):
    """Nor the app, which waits for the room that it needs."""
    stream = opened(client, "/large")
    num_bytes = 0
    for event in client.events():
        num_bytes += len(getattr(event, "data", b""))
        if num_bytes == WINDOW:
            break
    client.http2.reset_stream(stream)
    client.flush()
    assert app.has_ended()


def test_an_answer_is_not_kept_for_a_client_that_has_gone(app):
    """However long a client that is there has."""
    with serving(app, seconds=0) as server, raw_client(server.port) as client:
        stream = opened(client, "/large")
        events_of(client, stream, h2.events.DataReceived)
        client.vanish()
        assert app.has_ended()


def test_a_connection_of_which_nothing_is_taken_is_cut_off(app):
    """Its windows are open: it is the operating system that waits for the client."""
    with serving(app) as server, raw_client(server.port) as client:
        stream = opened(client, "/large")
        open_windows(client, stream, 2**30)

        def is_cut():
            try:
                client.http2.ping(b"whatever")
                client.flush()
            except ConnectionError:
                return True
            return False

        await_(is_cut)
        assert app.has_ended()


def test_an_answer_that_is_taken_bit_by_bit_comes_to_its_end(app, monkeypatch):
    """Looked at more often, in all, than one may be of which nothing is taken."""
    connections = []

    async def look_on(connection):
        connections.append(connection)

    monkeypatch.setattr(HypercornConnection, "_look_on", look_on)
    monkeypatch.setattr(app, "large", bytes(WINDOW + 3000))
    with serving(app) as server, raw_client(server.port) as client:
        stream = opened(client, "/large")
        num_bytes, had = 0, WINDOW
        for event in client.events():
            num_bytes += len(getattr(event, "data", b""))
            if isinstance(event, h2.events.StreamEnded):
                break
            assert not isinstance(event, h2.events.StreamReset)
            if num_bytes == had < len(app.large):
                for _ in range(_LOOKS):
                    look(server, connections[0])
                open_windows(client, stream, 1000)
                had += 1000
    assert num_bytes == len(app.large)


def look(server, connection):
    looked = threading.Event()
    server.call_soon(lambda: (connection._look(), looked.set()))
    assert looked.wait(WAIT_SECONDS)


@pytest.mark.parametrize("num_frames", [0, 1, 100])
def test_who_goes_on_sending_after_a_refusal_is_told_to_stop(app, client, num_frames):
    """By the answer's end and a reset without an error, and the connection stays (RFC 9113, 8.1).

    Also where more has come than hypercorn keeps for the app.
    """
    stream = client.open("/refused")
    for _ in range(num_frames):
        client.http2.send_data(stream, b"x")
    client.flush()
    events = events_of(client, stream, h2.events.StreamReset)
    assert answer_of(events) == b"too large"
    assert isinstance(events[-2], h2.events.StreamEnded)
    assert events[-1].error_code == ErrorCodes.NO_ERROR
    assert app.has_ended()
    assert echoed(client) == b"abc"


def test_all_of_a_refusal_is_sent_before_its_stream_ends(app, client):
    stream = client.open("/refused/at/length")
    client.flush()
    answer = b""
    for event in client.events():
        answer += getattr(event, "data", b"")
        if len(answer) == WINDOW:
            open_windows(client, stream, 9)
        if isinstance(event, h2.events.StreamReset):
            break
    assert (len(answer), event.error_code) == (WINDOW + 9, ErrorCodes.NO_ERROR)


def test_what_was_on_its_way_to_a_stream_that_has_ended_is_ignored(app, client):
    stream = client.open("/refused")
    client.flush()
    for event in client.events():  # frames that the client's library would not send any more
        if isinstance(event, h2.events.StreamEnded):
            break
    late = b"\x00\x00\x03\x00\x00" + stream.to_bytes(4, "big") + b"abc"
    client.socket.sendall(late * 3)
    assert echoed(client) == b"abc"
    assert app.has_ended()


def test_a_connection_is_idle_once_its_only_stream_was_reset(app, monkeypatch):
    """And closed like others; hypercorn would keep it for as long as the client does."""
    monkeypatch.setattr("hypercorn.config.Config.keep_alive_timeout", SHORT_SECONDS)
    with serving(app, seconds=0) as server, raw_client(server.port) as client:
        stream = client.open("/echo")
        client.flush()
        client.http2.reset_stream(stream)
        client.flush()
        assert app.has_ended()
        for _ in client.events():  # until the server closes it
            pass
