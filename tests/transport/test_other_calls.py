"""Calls of gRPC that no unary handler gets are heard of, too, on every engine."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.core.errors import Code
from serving.transport.grpc_options import THREADED, GrpcOptions
from serving.transport.grpc_server import GrpcServer
from tests.transport.http2_client import raw_client

WAIT_SECONDS = 60  # only a failure waits so long
MAX_BYTES = 1000
ECHO = "/test.Echo/Say"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Heard:
    """What a server tells: calls that have begun, and how they end."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.ended: queue.Queue[tuple[str, Code]] = queue.Queue()
        self._lock = threading.Lock()

    def __call__(self, path: str):
        with self._lock:
            self.begun[path] += 1
        return lambda code: self.ended.put((path, code))


@pytest.fixture
def heard(grpc_engine):
    heard = Heard()
    with serving(heard, grpc_engine) as (server, channel):
        heard.server, heard.channel = server, channel
        yield heard
    assert heard.begun == {}, "each test takes what it has had begun"
    assert heard.ended.empty()


@pytest.fixture
def served(heard, grpc_engine):
    """A channel to a server that learns what becomes of each call."""
    if grpc_engine == THREADED:
        pytest.skip("grpcio's public server tells of no call whose request it does not get")
    return heard.channel


@contextlib.contextmanager
def serving(heard, engine):
    options = GrpcOptions(
        engine=engine,
        address="127.0.0.1:0",
        health_service=True,
        channel_arguments=(("grpc.max_receive_message_length", MAX_BYTES),),
    )
    methods = {ECHO: lambda request, _context, reply: reply(request)}
    server = GrpcServer(options, methods, begun=heard)
    server.start()
    server.set_serving(True)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, channel
    finally:
        server.stop(0)


def taken(heard, path: str) -> Code:
    """How the one call that has begun ends."""
    ended, code = heard.ended.get(timeout=WAIT_SECONDS)
    assert ended == path
    assert heard.begun.pop(path) == 1
    return code


@pytest.mark.parametrize("method", ["/test.Echo/Shout", "/other.Service/Do", "/x"])
def test_a_method_that_there_is_not_has_no_name(heard, method):
    """Clients may invent any number of names."""
    with pytest.raises(grpc.RpcError) as refused:
        heard.channel.unary_unary(method)(b"", timeout=WAIT_SECONDS)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert taken(heard, "") is Code.UNIMPLEMENTED


def test_of_a_call_that_a_handler_gets_nothing_is_told(heard):
    assert heard.channel.unary_unary(ECHO)(b"a", timeout=WAIT_SECONDS) == b"a"


def test_a_call_without_a_request_is_heard_of(served, heard):
    with pytest.raises(grpc.RpcError) as refused:
        served.stream_unary(ECHO)(iter([]), timeout=WAIT_SECONDS)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert taken(heard, ECHO) is Code.UNIMPLEMENTED


def test_a_request_that_is_too_large_is_heard_of(served, heard):
    with pytest.raises(grpc.RpcError) as refused:
        served.unary_unary(ECHO)(b"x" * (MAX_BYTES + 1), timeout=WAIT_SECONDS)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert taken(heard, ECHO) is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("leave", ["vanish", "reset"])
def test_a_call_whose_client_leaves_before_its_request_was_given_up(served, heard, leave):
    with raw_client(heard.server.port) as client:
        stream = client.open(ECHO)
        client.flush()
        # Once this one is answered, the call before it has arrived.
        answered = client.open(ECHO)
        client.send(answered, b"a")
        client.flush()
        assert client.grpc_status(answered) == "0"
        if leave == "vanish":
            client.vanish()
        else:
            client.http2.reset_stream(stream)
            client.flush()
        assert taken(heard, ECHO) is Code.CANCELLED


def test_a_stream_that_its_client_ends_has_ended_well(heard):
    stub = reflection_pb2_grpc.ServerReflectionStub(heard.channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    (answer,) = stub.ServerReflectionInfo(iter(asked), timeout=WAIT_SECONDS)
    assert answer.list_services_response.service
    assert taken(heard, REFLECTION) is Code.OK


def test_a_stream_that_its_client_gives_up_is_cancelled(heard):
    stub = health_pb2_grpc.HealthStub(heard.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    assert heard.begun == {WATCH: 1}
    assert heard.ended.empty()  # it goes on
    watch.cancel()
    assert taken(heard, WATCH) is Code.CANCELLED


def test_a_stream_of_requests_that_its_client_gives_up_is_cancelled(heard, grpc_engine):
    stub = reflection_pb2_grpc.ServerReflectionStub(heard.channel)
    requests: queue.Queue = queue.Queue()
    requests.put(reflection_pb2.ServerReflectionRequest(list_services=""))
    stream = stub.ServerReflectionInfo(iter(requests.get, None), timeout=WAIT_SECONDS)
    next(stream)
    stream.cancel()
    requests.put(None)
    # grpcio's public server may say that there are no more requests, and then why.
    expected = {Code.CANCELLED} | ({Code.OK} if grpc_engine == THREADED else set())
    assert taken(heard, REFLECTION) in expected


def test_a_stream_that_the_server_ends_was_not_given_up_by_its_client(grpc_engine):
    heard = Heard()
    with serving(heard, grpc_engine) as (server, channel):
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS
        )
        next(watch)
        server.stop(0)
        assert taken(heard, WATCH) is Code.UNAVAILABLE
