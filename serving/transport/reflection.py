"""gRPC's own way to ask a server what it serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.core.errors import InvalidArgument
from serving.transport.grpc_engine import GrpcStream

REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = reflection.SERVICE_NAME

_V1_FILE = "grpc/reflection/v1/reflection.proto"


class Reflection:
    """The streaming method ``ServerReflectionInfo`` of both versions of the protocol.

    The messages of v1 are those of v1alpha under another package name: the same bytes. The
    messages of ``services`` must be in protobuf's default descriptor pool by the time a client
    asks. Thread-safe.
    """

    one_request = False

    def __init__(self, services: Iterable[str]) -> None:
        names = [*services, REFLECTION, REFLECTION_V1ALPHA]
        self._default: Any = reflection.ReflectionServicer(names)
        self._v1: Any = reflection.ReflectionServicer((), _pool_of_v1())

    def requested(self, stream: GrpcStream, request: bytes) -> None:
        try:
            message = reflection_pb2.ServerReflectionRequest.FromString(request)
        except DecodeError:
            stream.end(InvalidArgument("the ServerReflectionRequest cannot be parsed"))
            return
        (response,) = self._default.ServerReflectionInfo(iter([message]), None)
        if response.HasField("error_response"):
            (of_v1,) = self._v1.ServerReflectionInfo(iter([message]), None)
            response = response if of_v1.HasField("error_response") else of_v1
        stream.send(response.SerializeToString())

    def over(self, stream: GrpcStream) -> None:
        """Nothing is kept of a stream."""


def _pool_of_v1() -> DescriptorPool:
    """What grpcio-reflection has no description of: its file of v1alpha, in the other package.

    In a pool of its own, as it may be registered in the default one by whoever has it.
    """
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    alpha, file.package = file.package, REFLECTION.rpartition(".")[0]
    file.name = _V1_FILE
    file.ClearField("options")
    for field in (field for message in file.message_type for field in message.field):
        if field.type_name:
            field.type_name = field.type_name.replace(alpha, file.package)
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace(alpha, file.package)
        method.output_type = method.output_type.replace(alpha, file.package)
    pool = DescriptorPool()
    pool.Add(file)
    return pool
