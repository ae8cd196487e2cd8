"""gRPC's own way to ask a server what it serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.core.errors import InvalidArgument
from serving.transport.grpc_engine import GrpcStream

REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = reflection.SERVICE_NAME


class Reflection:
    """The streaming method ``ServerReflectionInfo`` of both versions of the protocol.

    The messages of v1 are those of v1alpha under another package name: the same bytes. The
    messages of ``services`` must be in protobuf's default descriptor pool by the time a client
    asks. Thread-safe.
    """

    one_request = False

    def __init__(self, services: Iterable[str]) -> None:
        names = [*services, REFLECTION, REFLECTION_V1ALPHA]
        self._servicer: Any = reflection.ReflectionServicer(names)

    def requested(self, stream: GrpcStream, request: bytes) -> None:
        try:
            message = reflection_pb2.ServerReflectionRequest.FromString(request)
        except DecodeError:
            stream.end(InvalidArgument("the ServerReflectionRequest cannot be parsed"))
            return
        for response in self._servicer.ServerReflectionInfo(iter([message]), None):
            stream.send(response.SerializeToString())

    def over(self, stream: GrpcStream) -> None:
        """Nothing is kept of a stream."""
