"""HTTP calls that are observed."""

import asyncio

import pytest

from serving.core.call_observer import CallObserver
from serving.core.clock import SystemClock
from serving.core.observed_call import CURRENT_CALL, Protocols
from serving.transport.observed_app import ObservedApp


class Calls:
    def __init__(self):
        self.ended_calls = []

    def began(self, call, metadata):
        """Who calls is known."""

    def ended(self, call):
        self.ended_calls.append(call)


async def echo(scope, receive, send):
    CURRENT_CALL.get().route = "/p"
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": body})


async def fails(scope, receive, send):
    raise RuntimeError("a defect")


async def gone(scope, receive, send):
    assert (await receive())["type"] == "http.disconnect"


REQUEST = {"type": "http.request", "body": b"abc"}


def exchange(
    app,
    *,
    path=b"/a%20b",
    headers=(),
    messages=({"type": "http.request", "body": b"abc"},),
    always=True,
):
    """The call as it was told, and what was sent to the client."""
    calls = Calls()
    observer = CallObserver([calls], SystemClock(), returns_request_ids=always)
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/a b",
        "raw_path": path,
        "headers": headers,
        "client": ("::1", 5000),
    }
    left, sent = list(messages), []

    async def receive():
        return left.pop(0)

    async def send(message):
        sent.append(message)

    try:
        asyncio.run(ObservedApp(app, observer)(scope, receive, send))
    finally:
        (call,) = calls.ended_calls
        sent.append(call)
    return call, sent[:-1]


def test_a_call_tells_who_called_what_with_which_outcome():
    call, _ = exchange(echo)

    arrival = call.arrival
    assert (arrival.protocol, arrival.method, arrival.scheme) == (Protocols.HTTP, "POST", "http")
    assert (arrival.path, arrival.peer) == ("/a%20b", "[::1]:5000")
    assert (call.code, call.request_bytes, call.response_bytes) == ("201", 3, 6)
    assert call.route == "/p"


@pytest.mark.parametrize(
    ("sent", "always", "returned"),
    [([], False, False), ([(b"x-request-id", b"mine")], False, True), ([], True, True)],
)
def test_the_id_is_a_header_of_the_response(sent, always, returned):
    call, (start, *_) = exchange(echo, headers=sent, always=always)

    header = (b"x-request-id", call.request_id.encode())
    assert start["headers"] == [(b"a", b"b"), *([header] if returned else [])]
    assert call.request_id == "mine" or not sent


def test_of_a_path_so_much_is_kept():
    call, _ = exchange(echo, path=b"/" + b"a" * 10_000)

    assert len(call.arrival.path) == 256


def test_a_client_that_is_gone_before_its_answer_has_a_code_of_its_own():
    call, sent = exchange(gone, messages=[{"type": "http.disconnect"}])

    assert (call.code, sent) == ("499", [])


def test_an_app_that_fails_is_an_internal_error_and_still_fails():
    ended = []

    async def app(scope, receive, send):
        ended.append(CURRENT_CALL.get())
        await fails(scope, receive, send)

    with pytest.raises(RuntimeError, match="a defect"):
        exchange(app)

    assert ended[0].code == "500"


def test_what_is_no_http_call_is_passed_on():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    observer = CallObserver([], SystemClock(), returns_request_ids=True)
    asyncio.run(ObservedApp(app, observer)({"type": "lifespan"}, None, None))

    assert seen == [{"type": "lifespan"}]
