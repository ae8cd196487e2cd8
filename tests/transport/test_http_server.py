"""The HTTP server over real connections on the loopback interface."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import logging
import queue
import socket
import sys
import threading
import time

import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from serving.transport.http_options import ENGINES, HYPERCORN, HttpOptions
from serving.transport.http_server import HttpServer

LONG_GRACE_SECONDS = 600  # longer than a test may take


async def answer(send, body, status=200):
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def echo(scope, receive, send):
    assert scope["type"] == "http"
    await answer(send, scope["path"].encode() + b" " + await read(receive))


@pytest.fixture(autouse=True, params=ENGINES)
def engine(request):
    """Clients see the same of every engine."""
    engines.append(request.param)
    yield request.param
    engines.pop()


engines = []


@contextlib.contextmanager
def serving(app=echo, host="127.0.0.1", certificate=None):
    options = HttpOptions(host, 0, engine=engines[-1])
    server = HttpServer(options, app, certificate=certificate)
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


def request(port, path="/p", body=b"", host="127.0.0.1"):
    connection = http.client.HTTPConnection(host, port, timeout=WAIT_SECONDS)
    with contextlib.closing(connection):
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read(), response.headers


def test_an_asgi_app_answers():
    with serving() as server:
        status, body, _ = request(server.port, "/v1/x", b"hello")

    assert (status, body) == (200, b"/v1/x hello")


def test_a_connection_serves_one_request_after_another():
    with serving() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_SECONDS)
        with contextlib.closing(connection):
            for body in (b"1", b"2"):
                connection.request("POST", "/", body)
                assert connection.getresponse().read() == b"/ " + body


def test_responses_do_not_name_the_software():
    with serving() as server:
        _, _, headers = request(server.port)

    assert "server" not in headers
    assert "date" in headers


def test_a_large_body_passes_both_ways():
    with serving() as server:
        _, body, _ = request(server.port, "/", bytes(9 * 2**20))

    assert len(body) == 9 * 2**20 + 2


def test_requests_and_the_servers_own_life_leave_no_log(caplog):
    with serving() as server:
        request(server.port)
        server.stop(WAIT_SECONDS)

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_defect_of_the_app_is_status_500_and_the_server_lives_on(caplog):
    async def broken(scope, receive, send):
        raise RuntimeError("secret")

    with serving(broken) as server:
        for _ in range(2):
            status, body, _ = request(server.port)
            assert status == 500
            assert b"secret" not in body

    assert "secret" in caplog.text


@pytest.mark.parametrize(("family", "host"), [("IPv4", "127.0.0.1"), ("IPv6", "::1")])
def test_without_a_host_every_address_is_served(family, host):
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with serving(host="") as server:
        assert request(server.port, host=host)[0] == 200


def test_without_ipv6_every_ipv4_address_is_served(monkeypatch):
    real_socket = socket.socket

    def no_ipv6(family=-1, *rest, **named):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real_socket(family, *rest, **named)

    monkeypatch.setattr("serving.transport.http_server.socket.socket", no_ipv6)
    with serving(host="") as server:
        monkeypatch.undo()
        assert request(server.port)[0] == 200


def _has_ipv6():
    with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
        probe.bind(("::1", 0))
        return True
    return False


def test_port_0_is_picked_by_the_system_and_told():
    server = HttpServer(HttpOptions("127.0.0.1", 0, engine=engines[-1]), echo)

    assert server.port is None
    server.start()
    assert server.port > 0
    server.stop(0)


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_in_use_is_an_error_that_names_the_address(host):
    with serving(host=host) as first:
        second = HttpServer(HttpOptions(host, first.port, engine=engines[-1]), echo)
        with pytest.raises(Unavailable) as caught:
            second.start()

        assert caught.value.message == (
            f"HTTP cannot listen on {host or '[::]'}:{first.port}: Address already in use"
        )
        assert request(first.port)[0] == 200


def test_an_address_of_another_host_is_an_error():
    with pytest.raises(Unavailable, match=r"HTTP cannot listen on 192\.0\.2\.77:0: "):
        HttpServer(HttpOptions("192.0.2.77", 0, engine=engines[-1]), echo).start()


def test_a_host_that_does_not_exist_is_an_error():
    with pytest.raises(Unavailable, match="HTTP cannot listen on no host:0: "):
        HttpServer(HttpOptions("no host", 0, engine=engines[-1]), echo).start()


class Held:
    """An app whose responses wait for the test."""

    def __init__(self):
        self.arrived = threading.Event()
        self._release = concurrent.futures.Future()

    async def __call__(self, scope, receive, send):
        self.arrived.set()
        await asyncio.wrap_future(self._release)
        await answer(send, b"finished in time")

    def release(self):
        self._release.set_result(None)


def test_a_stop_lets_calls_in_progress_end_and_refuses_new_ones():
    held = Held()
    with serving(held) as server, concurrent.futures.ThreadPoolExecutor(1) as client:
        pending = client.submit(request, server.port)
        assert held.arrived.wait(WAIT_SECONDS)
        stopping = threading.Thread(target=server.stop, args=(WAIT_SECONDS,))
        stopping.start()
        assert _refuses_soon(server.port)
        held.release()
        stopping.join(WAIT_SECONDS)

        assert pending.result()[:2] == (200, b"finished in time")
        assert not stopping.is_alive()


def _refuses_soon(port):
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return True
    return False


def test_a_stop_cancels_what_outlasts_the_grace():
    held = Held()
    with serving(held) as server, concurrent.futures.ThreadPoolExecutor(1) as client:
        pending = client.submit(request, server.port)
        assert held.arrived.wait(WAIT_SECONDS)
        server.stop(0.1)

        with contextlib.suppress(OSError, http.client.HTTPException):
            assert pending.result()[0] >= 500


def test_a_second_stop_ends_the_grace():
    held = Held()
    with serving(held) as server, concurrent.futures.ThreadPoolExecutor(1) as client:
        pending = client.submit(request, server.port)
        assert held.arrived.wait(WAIT_SECONDS)
        stopping = threading.Thread(target=server.stop, args=(LONG_GRACE_SECONDS,))
        stopping.start()
        assert _refuses_soon(server.port)
        server.stop(0)
        stopping.join(WAIT_SECONDS)

        assert not stopping.is_alive()
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert pending.result()[0] >= 500


def test_an_idle_connection_does_not_hold_up_the_stop():
    with serving() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", "/", b"")
            connection.getresponse().read()
            server.stop(LONG_GRACE_SECONDS)


def test_the_event_loop_answers_until_it_has_ended():
    """Afterwards the caller's own thread does: nobody is left without an answer."""
    answers = queue.SimpleQueue()

    def notify():
        answers.put(threading.current_thread().name)

    with serving() as server:
        server.call_soon(notify)
        assert answers.get(timeout=WAIT_SECONDS) == "http"
    server.call_soon(notify)
    assert answers.get(timeout=WAIT_SECONDS) == threading.current_thread().name


def test_a_server_may_be_stopped_twice_and_before_it_started():
    HttpServer(HttpOptions("127.0.0.1", 0, engine=engines[-1]), echo).stop(0)
    with serving() as server:
        server.stop(0)
        server.stop(0)


def test_an_engine_that_there_is_not_is_refused():
    with pytest.raises(InvalidArgument) as refused:
        HttpOptions(engine="apache")
    assert refused.value.message == "rest_engine must be one of httptools, hypercorn, not 'apache'"


def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    for name in [*sys.modules]:
        if name.startswith(("hypercorn.", "serving.transport.hypercorn_engine")):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(FailedPrecondition) as refused:
        HttpServer(HttpOptions(engine=HYPERCORN), echo)
    assert refused.value.message == (
        "rest_engine hypercorn is not installed: "
        "pip install '.[http2]' in a checkout of this server"
    )
