"""gRPC's own way to ask a server what it serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.transport.call_threads import OnPool
from serving.transport.open_streams import OpenStreams

REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = reflection.SERVICE_NAME


def reflection_handlers(
    services: Iterable[str], streams: OpenStreams, pool: ThreadPoolExecutor
) -> list[grpc.GenericRpcHandler]:
    """Describe ``services`` to clients, over both versions of the reflection protocol.

    A stream holds a thread of ``pool`` until it ends; those for which there is none left wait.
    The services' messages must be in protobuf's default descriptor pool by the time a client asks.
    """
    servicer = reflection.ReflectionServicer([*services, REFLECTION, REFLECTION_V1ALPHA])

    def info(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        streams.add(context)
        return iter(servicer.ServerReflectionInfo(requests, context))

    # The messages of v1 are those of v1alpha under another package name: the same bytes.
    method: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
        OnPool(info, pool),
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [
        grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": method})
        for service in (REFLECTION, REFLECTION_V1ALPHA)
    ]
