"""Calls that come while the server stops: real channels on the loopback interface."""

import contextlib
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import WAIT_SECONDS

from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer

ECHO = "/test.Echo/Say"
SHUTTING_DOWN = (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")


class Echo:
    """A handler that answers at once, except what a test asks it to keep."""

    def __init__(self):
        self.kept = threading.Event()
        self.reply = None

    def __call__(self, request, context, reply):
        if request == b"keep":
            self.reply = reply
            self.kept.set()
        else:
            reply(request)


@pytest.fixture
def serving(grpc_engine):
    """Opens servers on the engine under test."""

    @contextlib.contextmanager
    def opened(max_threads=4):
        echo = Echo()
        options = GrpcOptions(
            engine=grpc_engine, address="127.0.0.1:0", max_threads=max_threads, health_service=True
        )
        server = GrpcServer(options, {ECHO: echo})
        server.start()
        server.set_serving(True)
        try:
            yield server, echo
        finally:
            server.stop(0)

    return opened


@contextlib.contextmanager
def stopping(server):
    """The stop begins, and has all the time it wants for calls in progress."""
    thread = threading.Thread(target=server.stop, args=(WAIT_SECONDS,))
    thread.start()
    yield
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()


def channel_to(server):
    """A connection of its own; otherwise channels to one address share theirs."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own)


def outcome(channel, method=ECHO):
    try:
        channel.unary_unary(method)(b"hi", timeout=WAIT_SECONDS)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def first_refusal(channel):
    """What follows UNIMPLEMENTED, which needs no thread of the server, on one open connection."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        answer = outcome(channel, "/test.Other/Say")
        if answer[0] is not grpc.StatusCode.UNIMPLEMENTED:
            return answer
    return None


def test_under_load_every_call_ends_well_or_as_unavailable(serving):
    outcomes = []
    under_load = threading.Barrier(13)

    def client(server):
        with channel_to(server) as channel:
            outcomes.append(outcome(channel))
            under_load.wait(WAIT_SECONDS)
            refused = 0
            while refused < 3:
                outcomes.append(outcome(channel))
                refused += outcomes[-1][0] is not grpc.StatusCode.OK

    with serving() as (server, _):
        threads = [threading.Thread(target=client, args=(server,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        under_load.wait(WAIT_SECONDS)
        server.stop(WAIT_SECONDS)
        for thread in threads:
            thread.join(WAIT_SECONDS)

    codes = {code for code, _ in outcomes}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert outcomes.count(SHUTTING_DOWN) == 12  # the others found nobody listening


def test_a_call_in_progress_ends_well_and_a_new_one_is_unavailable_though_no_thread_is_free(
    serving,
):
    with serving(max_threads=1) as (server, echo), channel_to(server) as channel:
        pending = channel.unary_unary(ECHO).future(b"keep", timeout=WAIT_SECONDS)
        assert echo.kept.wait(WAIT_SECONDS)
        with stopping(server):
            assert first_refusal(channel) == SHUTTING_DOWN
            echo.reply(b"finished in time")

        assert pending.result() == b"finished in time"


def test_a_call_that_waits_for_a_thread_when_the_stop_begins_is_in_progress(serving):
    with serving(max_threads=1) as (server, echo), channel_to(server) as channel:
        method = channel.unary_unary(ECHO)
        first = method.future(b"keep", timeout=WAIT_SECONDS)
        assert echo.kept.wait(WAIT_SECONDS)
        queued = method.future(b"queued", timeout=WAIT_SECONDS)
        assert outcome(channel, "/test.Other/Say")[0] is grpc.StatusCode.UNIMPLEMENTED  # after it
        with stopping(server):
            assert first_refusal(channel) == SHUTTING_DOWN
            echo.reply(b"done")

        assert first.result() == b"done"
        assert queued.result() == b"queued"


def test_a_large_request_is_refused_like_any_other(serving):
    with serving() as (server, echo), channel_to(server) as channel:
        pending = channel.unary_unary(ECHO).future(b"keep", timeout=WAIT_SECONDS)
        assert echo.kept.wait(WAIT_SECONDS)
        with stopping(server):
            end = time.monotonic() + WAIT_SECONDS
            code = grpc.StatusCode.OK
            while code is grpc.StatusCode.OK and time.monotonic() < end:
                large = channel.unary_unary(ECHO).future(bytes(2**21), timeout=WAIT_SECONDS)
                code = large.code() if large.exception() else grpc.StatusCode.OK
            echo.reply(b"done")

        assert code is grpc.StatusCode.UNAVAILABLE
        assert pending.result() == b"done"


def test_health_says_not_serving_to_the_last(serving):
    with serving() as (server, echo), channel_to(server) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        request = health_pb2.HealthCheckRequest()
        pending = channel.unary_unary(ECHO).future(b"keep", timeout=WAIT_SECONDS)
        assert echo.kept.wait(WAIT_SECONDS)
        statuses = []
        with stopping(server):
            with contextlib.suppress(grpc.RpcError):
                while True:
                    statuses.append(check(request, timeout=WAIT_SECONDS).status)
            echo.reply(b"done")

        assert statuses[-1] == health_pb2.HealthCheckResponse.NOT_SERVING
        assert pending.result() == b"done"
