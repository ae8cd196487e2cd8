"""Compressed messages: read where a client sends them, sent where the server is told to."""

import contextlib
import gzip
import zlib
from pathlib import Path

import grpc
import h2.events
import pytest

from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from tests.transport.http2_client import WAIT_SECONDS, raw_client

ECHO = "/test.Echo/Say"
TAKE = "/test.Echo/Take"
TEXT = b"the same words again and again, " * 1000
COMPRESSED = {"gzip": gzip.compress(TEXT), "deflate": zlib.compress(TEXT)}
ALGORITHMS = {"deflate": 1, "gzip": 2}
STATUS = {code.name: str(code.value[0]) for code in grpc.StatusCode}
LIMIT_BYTES = 2**20
BOMB_BYTES = 48 * 2**20  # compressed it fits a new connection's window


def echo(request, context, reply):
    reply(request)


def take(request, context, reply):
    reply(b"")


@pytest.fixture
def serving(grpc_engine):
    """Opens servers on the engine under test; each must answer a plain call in the end."""

    @contextlib.contextmanager
    def opened(**arguments):
        named = {f"grpc.{name}": value for name, value in arguments.items()}
        options = GrpcOptions(
            engine=grpc_engine, address="127.0.0.1:0", channel_arguments=tuple(named.items())
        )
        server = GrpcServer(options, {ECHO: echo, TAKE: take})
        server.start()
        try:
            yield server
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                assert channel.unary_unary(ECHO)(b"next", timeout=WAIT_SECONDS) == b"next"
        finally:
            server.stop(0)

    return opened


def status_of(server, message, encoding):
    """The status that a call with this message ends with, which claims to be compressed so."""
    with raw_client(server.port) as client:
        headers = [("grpc-encoding", encoding)] if encoding else []
        stream = client.open(TAKE, *headers)
        client.send(stream, message, compressed=True)
        client.flush()
        return client.grpc_status(stream)


def answer_as_sent(server):
    """How an answer says that it is encoded, and its bytes with the prefix of gRPC."""
    encoding, data = None, b""
    with raw_client(server.port) as client:
        stream = client.open(ECHO, ("grpc-accept-encoding", "identity,deflate,gzip"))
        client.send(stream, TEXT)
        client.flush()
        for event in client.events():
            if isinstance(event, h2.events.ResponseReceived):
                encoding = dict(event.headers).get("grpc-encoding")
            elif isinstance(event, h2.events.DataReceived):
                data += event.data
            elif isinstance(event, h2.events.StreamEnded):
                break
    return encoding, data


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_stock_client_that_compresses_is_understood(serving, algorithm):
    with (
        serving() as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}", compression=algorithm) as channel,
    ):
        assert channel.unary_unary(ECHO)(TEXT, timeout=WAIT_SECONDS) == TEXT


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_compressed_message_reaches_the_handler_as_it_was(serving, encoding):
    """The limit lies between both sizes, so that what is refused is known to be inflated."""
    with serving() as server:
        assert status_of(server, COMPRESSED[encoding], encoding) == STATUS["OK"]
    with serving(max_receive_message_length=len(TEXT) - 1) as server:
        assert status_of(server, COMPRESSED[encoding], encoding) == STATUS["RESOURCE_EXHAUSTED"]


def test_answers_are_not_compressed_by_default(serving):
    with serving() as server:
        encoding, data = answer_as_sent(server)

    assert encoding is None
    assert data[5:] == TEXT


@pytest.mark.parametrize("encoding", ALGORITHMS)
def test_answers_are_compressed_where_a_channel_argument_says_so(serving, encoding):
    with serving(default_compression_algorithm=ALGORITHMS[encoding]) as server:
        answered, data = answer_as_sent(server)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert channel.unary_unary(ECHO)(TEXT, timeout=WAIT_SECONDS) == TEXT

    assert answered == encoding
    assert data[0] == 1
    assert zlib.decompress(data[5:], wbits=zlib.MAX_WBITS | 32) == TEXT


@pytest.mark.parametrize(
    ("message", "encoding"),
    [
        (b"no such thing" * 10, "gzip"),
        (b"no such thing" * 10, "deflate"),
        (COMPRESSED["gzip"][:-10], "gzip"),
        (COMPRESSED["gzip"], "deflate"),
        (COMPRESSED["gzip"], None),
        (COMPRESSED["gzip"], "br"),
    ],
    ids=["noise", "noise_deflated", "cut", "other", "unnamed", "unknown"],
)
def test_what_cannot_be_decompressed_is_an_internal_error_of_its_call(serving, message, encoding):
    """Also an encoding that nobody knows, for which the protocol has UNIMPLEMENTED: gRPC's own
    library answers so.
    """
    with serving() as server:
        assert status_of(server, message, encoding) == STATUS["INTERNAL"]


def peak_bytes():
    """The most memory this process has had since ``forget_peak``."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_small_message_that_inflates_without_end_is_refused_without_the_memory(serving, encoding):
    deflated = zlib.compressobj(9, wbits=zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
    bomb = deflated.compress(bytes(BOMB_BYTES)) + deflated.flush()
    with serving(max_receive_message_length=LIMIT_BYTES) as server:
        assert status_of(server, bomb, encoding) == STATUS["RESOURCE_EXHAUSTED"]
        forget_peak()
        before = peak_bytes()
        for _ in range(5):
            assert status_of(server, bomb, encoding) == STATUS["RESOURCE_EXHAUSTED"]
        assert peak_bytes() - before < BOMB_BYTES / 4
