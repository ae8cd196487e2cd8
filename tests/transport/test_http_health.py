"""Liveness and readiness over HTTP, beside an app of its own."""

import contextlib
import http.client

import pytest
from waiting import WAIT_SECONDS

from serving.transport.http_health import health_apps
from serving.transport.http_options import HttpOptions
from serving.transport.http_routes import routed
from serving.transport.http_server import HttpServer


async def other(scope, receive, send):
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"other"})


class State:
    problem = ""


@pytest.fixture(scope="module")
def state():
    return State()


@pytest.fixture(scope="module")
def port(state):
    app = routed(health_apps(lambda: state.problem), other)
    server = HttpServer(HttpOptions("127.0.0.1", 0), app)
    server.start()
    yield server.port
    server.stop(0)


def ask(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready"])
def test_a_server_without_a_problem_lives_and_is_ready(port, state, path):
    state.problem = ""

    assert ask(port, path) == (200, b"ok\n")
    assert ask(port, path, "HEAD") == (200, b"")


def test_a_server_with_a_problem_lives_and_says_why_it_is_not_ready(port, state):
    state.problem = "no model can be asked for"

    assert ask(port, "/healthz/ready") == (503, b"no model can be asked for\n")
    assert ask(port, "/healthz/live") == (200, b"ok\n")


def test_nothing_else_than_a_look_is_supported(port):
    assert ask(port, "/healthz/ready", "POST") == (405, b"POST is not supported\n")


@pytest.mark.parametrize("path", ["/healthz", "/healthz/ready/", "/v1/models/m"])
def test_every_other_path_is_the_other_apps(port, path):
    assert ask(port, path) == (200, b"other")
