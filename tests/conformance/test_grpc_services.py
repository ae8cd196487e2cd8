"""The page of gRPC services names every method that the server serves, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from stock_clients import WAIT_SECONDS

from serving.testing import running_server

PAGE = Path(__file__).parents[2] / "docs" / "grpc_services.md"
HAS_CHANNELZ = find_spec("grpc_channelz") is not None
ALL = (
    "--enable_session_service",
    "--enable_grpc_healthcheck_service",
    f"--enable_channelz={str(HAS_CHANNELZ).lower()}",
)


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    config = tmp_path_factory.mktemp("services") / "models.json"
    config.write_text(json.dumps({"model_config_list": []}))
    with (
        running_server(f"--model_config_file={config}", *ALL) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        yield channel


def reflected(channel: grpc.Channel, version: str, **question: str) -> ServerReflectionResponse:
    """The answer to one question; the messages of both versions of the protocol are the same."""
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
    (answer,) = ask(iter([ServerReflectionRequest(**question)]), timeout=WAIT_SECONDS)
    return answer


def served(channel: grpc.Channel, version: str) -> Mapping[str, set[str]]:
    """The names of the methods of each service."""
    listed = reflected(channel, version, list_services="").list_services_response.service
    return {service.name: methods(channel, version, service.name) for service in listed}


def methods(channel: grpc.Channel, version: str, service: str) -> set[str]:
    answer = reflected(channel, version, file_containing_symbol=service)
    for encoded in answer.file_descriptor_response.file_descriptor_proto:
        file = FileDescriptorProto.FromString(encoded)
        for described in file.service:
            if f"{file.package}.{described.name}" == service:
                return {method.name for method in described.method}
    pytest.fail(f"{service} is not described")


def documented() -> Mapping[str, set[str]]:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    listed = {service: set(re.findall(r"`(\w+)`", cell)) for service, cell in rows}
    if not HAS_CHANNELZ:
        del listed["grpc.channelz.v1.Channelz"]
    return listed


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_the_page_lists_what_the_server_serves_and_describes(
    channel: grpc.Channel, version: str
) -> None:
    assert served(channel, version) == documented()


def test_every_documented_method_is_there(channel: grpc.Channel) -> None:
    """None is only described: a call gets as far as the method."""
    missing = []
    for service, names in documented().items():
        for name in names:
            call = channel.stream_unary(f"/{service}/{name}").future(iter([b""]), timeout=0.5)
            if call.exception() and "Method not found!" in call.details():
                missing.append(f"{service}/{name}")
    assert missing == []
