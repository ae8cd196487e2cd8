"""Whatever a client does to its connection, the server serves the next call."""

import contextlib
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame

from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from serving.transport.health import HEALTH
from tests.transport.http2_client import WAIT_SECONDS, raw_client

ECHO = "/test.Echo/Say"
KEEP = "/test.Echo/Keep"
LARGE = "/test.Echo/Large"
OK = "0"


class Kept:
    """A handler whose calls are never answered."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.replies = []

    def __call__(self, request, context, reply):
        self.replies.append(reply)
        self.arrived.release()


def echo(request, context, reply):
    reply(request)


def large(request, context, reply):
    reply(bytes(2**20))


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def server(grpc_engine, kept):
    """A server that has to answer a well-behaved client when the test is done, and to stop."""
    options = GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", max_threads=4)
    server = GrpcServer(options, {ECHO: echo, KEEP: kept, LARGE: large})
    server.start()
    try:
        yield server
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert channel.unary_unary(ECHO)(b"next", timeout=WAIT_SECONDS) == b"next"
    finally:
        server.stop(1)


def test_the_raw_client_is_served_when_it_behaves(server):
    with raw_client(server.port) as client:
        stream = client.open(ECHO)
        client.send(stream, b"hi")
        client.flush()

        assert client.grpc_status(stream) == OK


def test_streams_opened_and_reset_again_and_again(server):
    with raw_client(server.port) as client, contextlib.suppress(OSError):
        for _ in range(2000):
            stream = client.open(ECHO)
            client.http2.reset_stream(stream, error_code=8)
            client.flush()


def test_calls_reset_after_their_message(server):
    with raw_client(server.port) as client, contextlib.suppress(OSError):
        for _ in range(500):
            stream = client.open(ECHO)
            client.send(stream, b"hi")
            client.http2.reset_stream(stream, error_code=8)
            client.flush()


def test_a_thousand_streams_without_a_message(server):
    with raw_client(server.port) as client, contextlib.suppress(OSError):
        for _ in range(1000):
            client.open(ECHO)
            client.flush()


def test_a_client_that_never_opens_its_window(server):
    with raw_client(server.port) as client:
        for _ in range(20):
            stream = client.open(LARGE)
            client.send(stream, b"")
        client.flush()
        for _ in zip(range(3), client.events(), strict=False):
            pass  # as much as fits the first window has come; nothing is acknowledged


@pytest.mark.parametrize("frames", [1, 100, 2000])
def test_giant_headers(server, frames):
    headers = b"\0\1a\x64" + b"x" * 100  # a literal field, a: xxx…, that is not indexed
    with raw_client(server.port) as client, contextlib.suppress(OSError):
        begin = HeadersFrame(1, headers * 100).serialize()
        client.socket.sendall(begin)
        for _ in range(frames):
            client.socket.sendall(ContinuationFrame(1, headers * 100).serialize())


def test_a_client_killed_in_the_middle_of_a_message(server):
    for _ in range(50):
        with raw_client(server.port) as client:
            stream = client.open(ECHO)
            client.http2.send_data(stream, b"\0\0\0\1\0half")
            client.flush()
            client.vanish()


def test_a_client_killed_while_its_call_is_worked_on(server, kept):
    for _ in range(50):
        with raw_client(server.port) as client:
            stream = client.open(KEEP)
            client.send(stream, b"hi")
            client.flush()
            assert kept.arrived.acquire(timeout=WAIT_SECONDS)
            client.vanish()
    for reply in kept.replies:
        reply(b"too late")


def test_a_half_closed_call_without_a_message_is_an_error(server):
    with raw_client(server.port) as client:
        stream = client.open(ECHO)
        client.http2.end_stream(stream)
        client.flush()

        assert client.grpc_status(stream) == str(grpc.StatusCode.UNIMPLEMENTED.value[0])


def test_two_messages_in_a_unary_call_do_no_harm(server):
    with raw_client(server.port) as client:
        stream = client.open(ECHO)
        client.send(stream, b"one", end=False)
        client.send(stream, b"two")
        client.flush()
        client.grpc_status(stream)


def test_a_message_that_lies_about_its_length(server):
    with raw_client(server.port) as client:
        stream = client.open(ECHO)
        client.http2.send_data(stream, b"\0\xff\xff\xff\xffshort", end_stream=True)
        client.flush()

        assert client.grpc_status(stream) != OK


def test_bytes_that_are_no_http2(server):
    with raw_client(server.port) as client:
        client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        with contextlib.suppress(OSError):
            while client.socket.recv(65536):
                pass


def test_a_connection_that_says_nothing(server):
    with contextlib.ExitStack() as open_connections:
        for _ in range(50):
            open_connections.enter_context(raw_client(server.port))


def test_clients_that_leave_while_a_stop_holds_their_calls(grpc_engine):
    """The stop waits for connections, and has nothing to wait for when the last one is gone."""
    server = GrpcServer(GrpcOptions(engine=grpc_engine, address="127.0.0.1:0"), {ECHO: echo})
    server.start()
    with contextlib.ExitStack() as open_connections:
        clients = [open_connections.enter_context(raw_client(server.port)) for _ in range(10)]
        for client in clients:
            stream = client.open(ECHO)
            client.send(stream, b"hi")
            client.flush()
            assert client.grpc_status(stream) == OK
            for _ in range(100):
                client.send(client.open(ECHO), b"hi")
        stopping = threading.Thread(target=server.stop, args=(5,))
        stopping.start()
        time.sleep(0.005)  # the stop has begun, and holds for 100 ms what comes
        for client in clients:
            client.flush()
        time.sleep(0.01)  # that much has come
        for client in clients:
            client.vanish()
        stopping.join(WAIT_SECONDS)
        assert not stopping.is_alive()


def test_clients_that_watch_health_and_take_nothing_hold_up_nobody(grpc_engine):
    options = GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", health_service=True)
    server = GrpcServer(options, {})
    server.start()
    with raw_client(server.port) as client:
        client.http2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        for _ in range(4):
            client.send(client.open(f"/{HEALTH}/Watch"), b"")
        client.flush()
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            empty = health_pb2.HealthCheckRequest()
            watch = health.Watch(empty, timeout=WAIT_SECONDS)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            server.set_serving(True)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            answer = health.Check(empty, timeout=WAIT_SECONDS)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stopping = threading.Thread(target=server.stop, args=(1,), daemon=True)
        stopping.start()
        stopping.join(WAIT_SECONDS)
        assert not stopping.is_alive()
