"""Calls that are observed, over real connections and with every engine."""

import contextlib
import logging
import threading

import grpc
import pytest
from waiting import WAIT_SECONDS

from serving.core.call_observer import CallObserver
from serving.core.clock import SystemClock
from serving.core.errors import InvalidArgument, NotFound, ResourceExhausted
from serving.core.observed_call import CURRENT_CALL
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from serving.transport.observed_calls import observed

METHOD = "/package.Service/Method"


class Calls:
    """A CallListener that hands over the calls that have ended."""

    def __init__(self):
        self._ended = []
        self._changed = threading.Condition()

    def began(self, call, metadata):
        assert call.code == ""

    def ended(self, call):
        with self._changed:
            self._ended.append(call)
            self._changed.notify_all()

    def one(self):
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, WAIT_SECONDS)
            return self._ended.pop(0)


@contextlib.contextmanager
def serving(engine, handler, calls, *, returns=True):
    observer = CallObserver([calls], SystemClock(), returns_request_ids=returns)
    options = GrpcOptions("127.0.0.1:0", engine=engine)
    server = GrpcServer(options, {METHOD: handler}, observer=observer)
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel.unary_unary(METHOD)
    finally:
        server.stop(1)


def echo(request, context, reply):
    reply(request * 2)


def fails(error):
    def handler(request, context, reply):
        raise error

    return handler


def trailing(call):
    """The trailing metadata of a call that has ended, however it did."""
    return {entry.key: entry.value for entry in call.trailing_metadata()}


def test_nothing_is_put_around_handlers_where_nobody_observes():
    methods = {METHOD: echo}

    assert observed(methods, None) is methods


def test_a_call_tells_who_called_what_with_which_outcome(grpc_engine):
    calls = Calls()
    with serving(grpc_engine, echo, calls) as method:
        method(b"abc", timeout=WAIT_SECONDS)
        call = calls.one()

    assert call.arrival.method == "package.Service/Method"
    assert call.arrival.peer.startswith("127.0.0.1:")
    assert (call.code, call.request_bytes, call.response_bytes) == ("OK", 3, 6)
    assert call.began <= call.ended


def test_the_id_comes_back_behind_an_answer(grpc_engine):
    calls = Calls()
    with serving(grpc_engine, echo, calls) as method:
        sent = [("x-request-id", "mine")]
        answer, call = method.with_call(b"abc", metadata=sent, timeout=WAIT_SECONDS)

    assert answer == b"abcabc"
    assert trailing(call) == {"x-request-id": "mine"}
    assert calls.one().request_id == "mine"


def test_the_id_comes_back_behind_an_error_and_what_else_the_error_tells(grpc_engine):
    calls = Calls()
    error = ResourceExhausted("full", retry_after_seconds=2)
    with serving(grpc_engine, fails(error), calls) as method, pytest.raises(grpc.RpcError) as told:
        method(b"", metadata=[("x-request-id", "mine")], timeout=WAIT_SECONDS)

    assert told.value.details() == "full"
    assert trailing(told.value) == {"x-request-id": "mine", "grpc-retry-pushback-ms": "2000"}
    assert calls.one().code == "RESOURCE_EXHAUSTED"


def test_a_client_that_sent_no_id_gets_none_unless_all_do(grpc_engine):
    with serving(grpc_engine, echo, Calls(), returns=False) as method:
        _, call = method.with_call(b"abc", timeout=WAIT_SECONDS)

    assert trailing(call) == {}


@pytest.mark.parametrize("error", [InvalidArgument("no"), NotFound("no")])
def test_a_call_that_fails_tells_its_code(grpc_engine, error):
    calls = Calls()
    with serving(grpc_engine, fails(error), calls) as method, pytest.raises(grpc.RpcError):
        method(b"", timeout=WAIT_SECONDS)

    call = calls.one()
    assert (call.code, call.response_bytes) == (error.code.name, 0)


def test_a_defect_is_internal_and_logged_while_the_thread_works_for_the_call(grpc_engine, caplog):
    calls = Calls()
    current = []
    caplog.handler.addFilter(lambda record: current.append(CURRENT_CALL.get()) or True)
    with (
        caplog.at_level(logging.ERROR),
        serving(grpc_engine, fails(RuntimeError("secret")), calls) as method,
        pytest.raises(grpc.RpcError) as told,
    ):
        method(b"", timeout=WAIT_SECONDS)

    call = calls.one()
    assert call.code == "INTERNAL"
    assert "secret" not in told.value.details()
    assert call in current


def test_a_call_that_its_client_gave_up_is_cancelled_whatever_it_is_answered(grpc_engine):
    calls = Calls()
    begun, cancelled = threading.Event(), threading.Event()
    replies = []

    def waits(request, context, reply):
        context.cancellation.when_cancelled(cancelled.set)
        replies.append(reply)
        begun.set()

    with serving(grpc_engine, waits, calls) as method:
        future = method.future(b"abc", timeout=WAIT_SECONDS)
        assert begun.wait(WAIT_SECONDS)
        future.cancel()
        assert cancelled.wait(WAIT_SECONDS)
        replies[0](b"too late")

    assert calls.one().code == "CANCELLED"


def test_health_is_not_observed(grpc_engine):
    calls = Calls()
    observer = CallObserver([calls], SystemClock(), returns_request_ids=True)
    options = GrpcOptions("127.0.0.1:0", engine=grpc_engine, health_service=True)
    server = GrpcServer(options, {METHOD: echo}, observer=observer)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        _, health = channel.unary_unary("/grpc.health.v1.Health/Check").with_call(
            b"", timeout=WAIT_SECONDS
        )
        channel.unary_unary(METHOD)(b"", timeout=WAIT_SECONDS)
    server.stop(1)

    assert trailing(health) == {}
    assert calls.one().arrival.method == "package.Service/Method"
