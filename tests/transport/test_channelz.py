"""Channelz tells of the connections of either engine."""

import sys
from importlib.util import find_spec

import grpc
import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import FailedPrecondition
from serving.transport import channelz
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer

needs_channelz = pytest.mark.skipif(
    not find_spec("grpc_channelz"), reason="grpcio-channelz is not installed"
)


@pytest.fixture
def channel(grpc_engine):
    options = GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", channelz=True)
    server = GrpcServer(options, {})
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    server.stop(0)


@needs_channelz
def test_a_client_sees_its_own_connection(channel):
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc  # noqa: PLC0415  # may be missing

    stub = channelz_pb2_grpc.ChannelzStub(channel)
    servers = stub.GetServers(channelz_pb2.GetServersRequest(), timeout=WAIT_SECONDS).server
    sockets = [
        socket
        for server in servers
        for socket in stub.GetServerSockets(
            channelz_pb2.GetServerSocketsRequest(server_id=server.ref.server_id),
            timeout=WAIT_SECONDS,
        ).socket_ref
    ]

    assert sockets
    request = channelz_pb2.GetSocketRequest(socket_id=sockets[-1].socket_id)
    assert stub.GetSocket(request, timeout=WAIT_SECONDS).socket.data.streams_started > 0


@needs_channelz
def test_what_is_not_there_is_not_found(channel):
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc  # noqa: PLC0415  # may be missing

    stub = channelz_pb2_grpc.ChannelzStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetServer(channelz_pb2.GetServerRequest(server_id=10**9), timeout=WAIT_SECONDS)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@needs_channelz
def test_bytes_that_are_no_request_are_refused(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{channelz.CHANNELZ}/GetServer")(b"\xff", timeout=WAIT_SECONDS)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_without_the_package_the_start_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc_channelz.v1", None)

    with pytest.raises(FailedPrecondition, match="needs grpcio-channelz"):
        GrpcServer(GrpcOptions(address="127.0.0.1:0", channelz=True), {})
