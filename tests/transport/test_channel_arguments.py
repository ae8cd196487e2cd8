"""What operators set with --grpc_channel_arguments holds, and good clients do not notice."""

import contextlib
import threading
import time
from dataclasses import replace
from itertools import islice

import grpc
import pytest
from hyperframe.frame import (
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from serving.config.command_line import parse_command_line
from serving.config.options import server_options
from serving.transport.grpc_server import GrpcServer
from tests.transport.http2_client import WAIT_SECONDS, raw_client

# grpcio's own thread, which watches a channel, may find it closed in the moment of the end.
GRPCIO_ENDS = "ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning"
pytestmark = pytest.mark.filterwarnings(GRPCIO_ENDS)

ECHO = "/test.Echo/Say"
KEEP = "/test.Echo/Keep"
NO_ERROR = 0
ENHANCE_YOUR_CALM = 11
AGE = "grpc.max_connection_age_ms=100,grpc.max_connection_age_grace_ms=60000"


class Kept:
    """A handler whose calls the test answers; ``most`` were open at the same time."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.most = 0
        self._replies = []
        self._lock = threading.Lock()

    def __call__(self, request, context, reply):
        with self._lock:
            self._replies.append((request, reply))
            self.most = max(self.most, len(self._replies))
        self.arrived.release()

    def await_call(self):
        assert self.arrived.acquire(timeout=WAIT_SECONDS)

    def answer_one(self):
        with self._lock:
            request, reply = self._replies.pop(0)
        reply(request)


def echo(request, context, reply):
    reply(request)


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def serving(grpc_engine, kept):
    """Opens servers on the engine under test, with channel arguments as the flag has them."""

    @contextlib.contextmanager
    def opened(channel_arguments):
        flags = ["--model_base_path=/m", f"--grpc_channel_arguments={channel_arguments}"]
        options = replace(
            server_options(parse_command_line(flags)).grpc,
            engine=grpc_engine,
            address="127.0.0.1:0",
            max_threads=8,
        )
        server = GrpcServer(options, {ECHO: echo, KEEP: kept})
        server.start()
        try:
            yield server
        finally:
            server.stop(0)

    return opened


def channel_to(server):
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own_connection)


def of_kind(kind, client):
    return (frame for frame in client.frames() if isinstance(frame, kind))


class Connects:
    """How often a channel has connected, and whether it has ever lost a connection."""

    def __init__(self, channel):
        self.count = 0
        self.lost = threading.Event()
        channel.subscribe(self._look, try_to_connect=True)

    def _look(self, connectivity):
        if connectivity is grpc.ChannelConnectivity.READY:
            self.count += 1
        elif self.count:
            self.lost.set()


def test_an_old_connection_is_told_to_go_without_blame(serving):
    with serving(AGE) as server, raw_client(server.port) as client:
        told = next(of_kind(GoAwayFrame, client))

    assert told.error_code == NO_ERROR
    assert told.additional_data == b"max_age"


def test_an_idle_connection_is_closed_and_the_next_call_opens_another(serving):
    with serving("grpc.max_connection_idle_ms=100") as server, channel_to(server) as channel:
        connects = Connects(channel)
        assert channel.unary_unary(ECHO)(b"first", timeout=WAIT_SECONDS) == b"first"
        assert connects.lost.wait(WAIT_SECONDS)
        assert channel.unary_unary(ECHO)(b"next", timeout=WAIT_SECONDS) == b"next"


def test_no_call_of_a_stock_channel_fails_while_its_connections_come_of_age(serving):
    with serving(AGE) as server, channel_to(server) as channel:
        connects = Connects(channel)
        ends_at = time.monotonic() + WAIT_SECONDS
        calls = 0
        while connects.count < 4:
            assert time.monotonic() < ends_at
            assert channel.unary_unary(ECHO)(b"%d" % calls, timeout=WAIT_SECONDS) == b"%d" % calls
            calls += 1


def test_a_call_outlives_the_age_of_its_connection(serving, kept):
    with serving(AGE) as server, raw_client(server.port) as client:
        stream = client.open(KEEP)
        client.send(stream, b"long work")
        client.flush()
        frames = client.frames()
        assert any(isinstance(frame, GoAwayFrame) for frame in frames)
        kept.await_call()
        kept.answer_one()
        headers = [frame for frame in frames if isinstance(frame, HeadersFrame)]

    assert {frame.stream_id for frame in headers} == {stream}
    assert "END_STREAM" in headers[-1].flags


def test_a_call_that_outlives_the_grace_of_its_connection_ends_as_unavailable(serving, kept):
    grace = "grpc.max_connection_age_ms=100,grpc.max_connection_age_grace_ms=100"
    with serving(grace) as server, channel_to(server) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(KEEP)(b"long work", timeout=WAIT_SECONDS)
        kept.await_call()
        kept.answer_one()

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert channel.unary_unary(ECHO)(b"next", timeout=WAIT_SECONDS) == b"next"


def test_connections_are_kept_alive_with_pings(serving):
    arguments = "grpc.keepalive_time_ms=50,grpc.keepalive_permit_without_calls=1"
    with serving(arguments) as server, raw_client(server.port) as client:
        pings = list(islice(of_kind(PingFrame, client), 3))

    assert len({ping.opaque_data for ping in pings}) == 3


def test_a_client_that_does_not_answer_pings_is_left(serving):
    """Its argument is that of pings: a keepalive timeout shorter than theirs changes nothing."""
    arguments = (
        "grpc.keepalive_time_ms=50,grpc.keepalive_permit_without_calls=1"
        ",grpc.http2.ping_timeout_ms=100"
    )
    with serving(arguments) as server, raw_client(server.port) as client:
        received = b""
        while data := client.socket.recv(65536):
            received += data

    assert b"ping_timeout" in received


def pings_of(client, count):
    """Ping again and again without calls, as long as the server listens."""
    with contextlib.suppress(OSError):
        for _ in range(count):
            client.http2.ping(b"12345678")
            client.flush()


def test_a_client_that_pings_too_much_is_sent_away_and_others_go_on(serving):
    with serving("") as server, channel_to(server) as channel:
        assert channel.unary_unary(ECHO)(b"before", timeout=WAIT_SECONDS) == b"before"
        connects = Connects(channel)
        with raw_client(server.port) as client:
            pings_of(client, 5)
            told = next(of_kind(GoAwayFrame, client))

        assert told.error_code == ENHANCE_YOUR_CALM
        assert told.additional_data == b"too_many_pings"
        assert channel.unary_unary(ECHO)(b"after", timeout=WAIT_SECONDS) == b"after"
        assert not connects.lost.is_set()


def test_how_many_pings_are_too_many_can_be_set(serving):
    with (
        serving("grpc.http2.max_ping_strikes=0") as server,
        raw_client(server.port) as client,
    ):
        pings_of(client, 20)
        answers = list(islice(of_kind((PingFrame, GoAwayFrame), client), 20))

    assert [answer.opaque_data for answer in answers] == [b"12345678"] * 20


def test_a_stock_channel_opens_no_more_streams_than_allowed_and_gets_every_answer(serving, kept):
    with serving("grpc.max_concurrent_streams=2") as server, channel_to(server) as channel:
        # Before the first answer a channel does not know of the limit.
        assert channel.unary_unary(ECHO)(b"before", timeout=WAIT_SECONDS) == b"before"
        bodies = [b"%d" % number for number in range(8)]
        calls = [channel.unary_unary(KEEP).future(body, timeout=WAIT_SECONDS) for body in bodies]
        kept.await_call()
        for _ in bodies[1:]:
            kept.await_call()
            kept.answer_one()
        kept.answer_one()

        assert [call.result() for call in calls] == bodies
        assert kept.most == 2


def test_streams_beyond_those_allowed_are_reset_and_the_others_answered(serving):
    with serving("grpc.max_concurrent_streams=2") as server, raw_client(server.port) as client:
        streams = [client.open(ECHO) for _ in range(6)]
        for stream in streams:
            client.send(stream, b"hi")
        client.flush()
        reset, ended, allowed = set(), set(), None
        for frame in client.frames():
            if isinstance(frame, SettingsFrame) and frame.settings:
                allowed = frame.settings[SettingsFrame.MAX_CONCURRENT_STREAMS]
            elif isinstance(frame, RstStreamFrame):
                reset.add(frame.stream_id)
            elif "END_STREAM" in frame.flags:
                ended.add(frame.stream_id)
            if len(reset) + len(ended) == len(streams):
                break

    assert allowed == 2
    assert ended >= set(streams[:2])
    assert reset
    assert reset.isdisjoint(ended)
