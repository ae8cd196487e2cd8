"""How answers are framed over HTTP/1.1, and what becomes of those that no client could read."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import threading
import weakref

import pytest
from http1_client import everything
from waiting import WAIT_SECONDS, await_

from serving.transport import http1_connection
from serving.transport.http_options import HttpOptions
from serving.transport.http_server import HttpServer

GET = b"GET /p?q=1 HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LENGTH_2 = (b"content-length", b"2")


def answering(*messages):
    """An app that sends these, whatever it is asked."""

    async def app(_scope, _receive, send):
        for message in messages:
            await send(message)

    return app


def start(*headers, status=200):
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def body(part, more=False):
    return {"type": "http.response.body", "body": part, "more_body": more}


@contextlib.contextmanager
def connected(app):
    server = HttpServer(HttpOptions("127.0.0.1", 0), app)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), WAIT_SECONDS) as connection:
            yield connection
    finally:
        server.stop(0)


def answers(app, *requests):
    with connected(app) as connection:
        connection.sendall(b"".join(requests))
        return everything(connection)


def framed(answer):
    """The status line and headers but the date's, and the body."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.startswith(b"date:")], rest


def test_a_body_of_told_length_stands_as_it_is():
    app = answering(start(LENGTH_2), body(b"a", more=True), body(b"b"))
    head, rest = framed(answers(app, LAST))
    assert head == [b"HTTP/1.1 200 OK", b"content-length: 2", b"connection: close"]
    assert rest == b"ab"


def test_a_body_of_untold_length_comes_in_chunks():
    app = answering(start(), body(b"ab" * 8, more=True), body(b"", more=True), body(b"c"))
    head, rest = framed(answers(app, LAST))
    assert b"transfer-encoding: chunked" in head
    assert rest == b"10\r\n" + b"ab" * 8 + b"\r\n1\r\nc\r\n0\r\n\r\n"


def test_to_a_client_of_http_1_0_the_end_of_the_connection_is_that_of_the_body():
    app = answering(start(), body(b"a", more=True), body(b"b"))
    head, rest = framed(answers(app, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
    assert head == [b"HTTP/1.1 200 OK", b"connection: close"]
    assert rest == b"ab"


@pytest.mark.parametrize(
    ("request_line", "status"), [(b"HEAD / HTTP/1.1", 200), (b"GET / HTTP/1.1", 204)]
)
def test_an_answer_without_a_body_is_followed_by_the_next_answer(request_line, status):
    app = answering(start(LENGTH_2, status=status), body(b"ab"))
    first = request_line + b"\r\nHost: x\r\n\r\n"
    got = answers(app, first, first.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    assert got.count(b"HTTP/1.1 %d" % status) == 2
    assert got.endswith(b"\r\n\r\n")
    assert b"ab" not in got


def test_an_answer_says_when_it_was_made():
    assert b"\r\ndate: " in answers(answering(start(LENGTH_2), body(b"ab")), LAST)


def test_a_status_without_a_name_is_sent_without_one():
    assert answers(answering(start(LENGTH_2, status=599), body(b"ab")), LAST).startswith(
        b"HTTP/1.1 599 \r\n"
    )


def test_an_app_may_end_the_connection():
    got = answers(answering(start(LENGTH_2, (b"connection", b"Close")), body(b"ab")), GET, GET)
    assert got.count(b"HTTP/1.1 200") == got.count(b"connection: close") == 1


@pytest.mark.parametrize(
    "messages",
    [
        [body(b"ab")],
        [start(LENGTH_2), start(LENGTH_2)],
        [start(LENGTH_2), body(b"abc")],
        [start(LENGTH_2), body(b"a")],
        [start((b"x", b"a\r\nset-cookie: b"))],
        [start((b"x", b"a\nb"), LENGTH_2), body(b"ab")],
        [start((b"x\r\ny", b"a"), LENGTH_2), body(b"ab")],
        [start()],
        [],
    ],
)
def test_what_is_no_answer_becomes_a_500(messages, caplog):
    head, rest = framed(answers(answering(*messages), GET))
    assert head[0] == b"HTTP/1.1 500 Internal Server Error"
    assert b"connection: close" in head
    assert rest == b"Internal Server Error"
    assert "/p" in caplog.text


def test_an_answer_that_breaks_off_ends_the_connection_before_its_end(caplog):
    app = answering(start((b"content-length", b"3")), body(b"a", more=True), start())
    _, rest = framed(answers(app, GET))
    assert rest == b"a"
    assert "out of order" in caplog.text


async def echo(scope, receive, send):
    got, more = b"", True
    while more:
        message = await receive()
        got += message["body"]
        more = message["more_body"]
    told = b"%s?%s:%s" % (scope["path"].encode(), scope["query_string"], got)
    await send(start((b"content-length", b"%d" % len(told))))
    await send(body(told))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a%20b?c=%20", b"/a b?c=%20"),
        (b"http://x:1/a?b", b"/a?b"),
        (b"http://x", b"/?"),
        (b"/a?b#c", b"/a?b"),
    ],
)
def test_targets_are_taken_apart(target, path):
    request = b"GET " + target + b" HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert answers(echo, request).endswith(path + b":")


@pytest.mark.parametrize("target", [b"/\xff", b"nonsense"])
def test_a_target_that_names_nothing_is_refused(target):
    assert answers(echo, b"GET " + target + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_who_waits_to_be_told_so_is_told_to_send_its_body():
    with connected(echo) as connection:
        connection.sendall(
            b"POST /p HTTP/1.1\r\nExpect: 100-Continue\r\nConnection: close\r\n"
            b"Content-Length: 2\r\n\r\n"
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ab")
        assert everything(connection).endswith(b"/p?:ab")


def test_requests_that_come_at_once_are_answered_one_after_the_other():
    posts = [
        b"POST /%d HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" % number + b"a" * 100_000
        for number in range(3)
    ]
    got = answers(echo, *posts, LAST)
    assert [got.index(b"/%d?:" % number) for number in range(3)] == sorted(
        got.index(b"/%d?:" % number) for number in range(3)
    )
    assert got.endswith(b"/p?:")


def test_a_connection_that_is_idle_for_long_is_closed(monkeypatch):
    monkeypatch.setattr(http1_connection, "_IDLE_SECONDS", 0.2)
    with connected(echo) as connection:
        connection.sendall(GET * 3)
        assert everything(connection).count(b"/p?q=1:") == 3


def test_a_connection_that_is_idle_after_an_early_answer_is_closed_too(monkeypatch):
    """Its timer has run while the rest of the body came."""
    monkeypatch.setattr(http1_connection, "_IDLE_SECONDS", 0.01)
    app = answering(start(LENGTH_2), body(b"ab"))
    with connected(app) as connection, connected(app) as other:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")
        assert connection.recv(1000).endswith(b"ab")
        other.sendall(GET)
        everything(other)
        connection.sendall(b"bc")
        assert everything(connection) == b""


class Gate:
    """An app that answers when it is let."""

    def __init__(self):
        self.come = threading.Event()
        self.open = threading.Event()

    async def __call__(self, scope, receive, send):
        self.come.set()
        await asyncio.get_running_loop().run_in_executor(None, self.open.wait, WAIT_SECONDS)
        await echo(scope, receive, send)


def test_a_stop_lets_a_request_end_that_has_only_begun_to_come():
    server = HttpServer(HttpOptions("127.0.0.1", 0), echo)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), WAIT_SECONDS) as connection:
        connection.sendall(GET + LAST[:9])
        assert connection.recv(1000).endswith(b":")
        stopping = threading.Thread(target=server.stop, args=(WAIT_SECONDS,))
        stopping.start()
        await_(lambda: not _listens(server.port))
        connection.sendall(LAST[9:])
        assert everything(connection).endswith(b"/p?:")
    stopping.join(WAIT_SECONDS)
    assert not stopping.is_alive()


def test_a_stop_answers_all_that_has_come_at_once():
    gate = Gate()
    server = HttpServer(HttpOptions("127.0.0.1", 0), gate)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), WAIT_SECONDS) as connection:
        connection.sendall(GET + GET)
        assert gate.come.wait(WAIT_SECONDS)
        stopping = threading.Thread(target=server.stop, args=(WAIT_SECONDS,))
        stopping.start()
        await_(lambda: not _listens(server.port))
        gate.open.set()
        got = everything(connection)
    stopping.join(WAIT_SECONDS)
    assert got.count(b"/p?q=1:") == 2


def test_a_stop_waits_for_no_connection_that_has_answered(monkeypatch):
    """Whose answer had begun before, and was not known then to be the last."""
    released = threading.Event()

    async def slow(_scope, _receive, send):
        await send(start((b"content-length", b"3")))
        await send(body(b"a", more=True))
        await asyncio.get_running_loop().run_in_executor(None, released.wait, WAIT_SECONDS)
        await send(body(b"bc"))

    server = HttpServer(HttpOptions("127.0.0.1", 0), slow)
    server.start()
    finishing = threading.Event()
    finish = http1_connection.Connection.finish
    monkeypatch.setattr(
        http1_connection.Connection, "finish", lambda self: (finish(self), finishing.set())
    )
    with socket.create_connection(("127.0.0.1", server.port), WAIT_SECONDS) as connection:
        connection.sendall(GET)
        got = b""
        while not got.endswith(b"a"):
            got += connection.recv(1000)
        stopping = threading.Thread(target=server.stop, args=(10 * WAIT_SECONDS,))
        stopping.start()
        assert finishing.wait(WAIT_SECONDS)
        released.set()
        assert everything(connection) == b"bc"
        stopping.join(WAIT_SECONDS)
        assert not stopping.is_alive()


def test_a_body_after_the_end_of_an_answer_is_refused(caplog):
    """A client would take it for the beginning of its next answer."""
    app = answering(start(), body(b"a"), body(b"evil"))
    assert answers(app, LAST).endswith(b"1\r\na\r\n0\r\n\r\n")
    assert "out of order" in caplog.text


def test_nobody_is_told_to_go_on_in_the_midst_of_an_answer():
    async def listening(_scope, receive, send):
        await send(start())
        await send(body(b"a", more=True))
        await receive()
        await send(body(b"b"))

    request = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"
    got = answers(listening, request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    assert got.count(b"HTTP/1.1") == 1


def test_a_client_of_http_1_0_is_never_told_to_go_on():
    request = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"
    assert answers(echo, request).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("more", [b"x" * 2**18, GET * 10_000])
def test_what_follows_the_last_request_keeps_nobody_from_its_answer(more):
    gate = Gate()
    with connected(gate) as connection:
        connection.sendall(LAST)
        connection.sendall(more)
        gate.open.set()
        assert everything(connection).endswith(b"/p?:")


def test_a_request_for_two_hosts_is_refused():
    request = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    assert answers(echo, request).startswith(b"HTTP/1.1 400 ")
    assert answers(echo, GET, LAST).count(b"HTTP/1.1 200 ") == 2


def test_a_client_that_leaves_during_a_long_answer_is_no_defect(caplog):
    ended = threading.Event()

    async def endless(_scope, _receive, send):
        try:
            await send(start())
            for _ in range(2000):
                await send(body(b"a" * 2**16, more=True))
            await send(body(b""))
        finally:
            ended.set()

    with connected(endless) as connection:
        connection.sendall(GET)
        connection.recv(1000)
        connection.close()
        assert ended.wait(WAIT_SECONDS)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_connection_whose_client_has_left_is_not_kept():
    """Not even until the garbage collector comes round, which may be long."""
    left, kept = threading.Event(), []

    async def wait_for_the_end(_scope, receive, _send):
        kept.append(weakref.ref(receive.__self__._line))
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    gc.disable()
    try:
        with connected(wait_for_the_end) as connection:
            connection.sendall(GET)
            await_(lambda: kept)
            connection.close()
            assert left.wait(WAIT_SECONDS)
            await_(lambda: kept[0]() is None)
    finally:
        gc.enable()


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
