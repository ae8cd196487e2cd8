"""The services that come with gRPC itself: health and reflection."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

HEALTH = health.SERVICE_NAME
REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = reflection.SERVICE_NAME

_HEALTH_KEYS = ("", "ModelService", "PredictionService")


class OpenStreams:
    """The streams that clients hold open without end, to be cut when the server stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: set[grpc.ServicerContext] = set()

    def add(self, context: grpc.ServicerContext) -> None:
        """Remember a stream until it ends."""
        with self._lock:
            self._contexts.add(context)
        if not context.add_callback(lambda: self._discard(context)):
            self._discard(context)

    def cancel(self) -> None:
        """End every stream; its client sees CANCELLED."""
        with self._lock:
            contexts = list(self._contexts)
        for context in contexts:
            context.cancel()

    def _discard(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._contexts.discard(context)


class Health(health.HealthServicer):  # type: ignore[misc]  # the package ships no types
    """``grpc.health.v1.Health``, NOT_SERVING until told otherwise. Thread-safe.

    The keys are the server as a whole ("") and the bare service names that TensorFlow Serving
    uses, ``ModelService`` and ``PredictionService``.
    """

    def __init__(self, streams: OpenStreams) -> None:
        super().__init__()
        self._streams = streams
        self.set_serving(False)

    def set_serving(self, serving: bool) -> None:
        """Answer SERVING, or NOT_SERVING, for every key from now on."""
        states = health_pb2.HealthCheckResponse
        for key in _HEALTH_KEYS:
            self.set(key, states.SERVING if serving else states.NOT_SERVING)

    def Watch(  # noqa: N802  # the name of the RPC
        self, request: Any, context: grpc.ServicerContext, send_response_callback: Any = None
    ) -> Any:
        self._streams.add(context)
        return super().Watch(request, context, send_response_callback)

    def add_to(self, server: grpc.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self, server)


def add_reflection(server: grpc.Server, services: Iterable[str], streams: OpenStreams) -> None:
    """Describe ``services`` to clients, over both versions of the reflection protocol.

    Their messages must be in protobuf's default descriptor pool by the time a client asks.
    """
    servicer = reflection.ReflectionServicer([*services, REFLECTION, REFLECTION_V1ALPHA])

    def info(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        streams.add(context)
        return iter(servicer.ServerReflectionInfo(requests, context))

    # The messages of v1 are those of v1alpha under another package name: the same bytes.
    method = grpc.stream_stream_rpc_method_handler(
        info,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in (REFLECTION, REFLECTION_V1ALPHA):
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": method})]
        )
