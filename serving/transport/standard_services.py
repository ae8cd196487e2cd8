"""The services that come with gRPC itself: health and reflection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.transport.call_threads import OnPool

HEALTH = health.SERVICE_NAME
REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = reflection.SERVICE_NAME

_HEALTH_KEYS = ("", "ModelService", "PredictionService")


class OpenStreams:
    """The streams that clients hold open without end, to be cut when the server stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: set[grpc.ServicerContext] = set()
        self._cancelled = False

    def add(self, context: grpc.ServicerContext) -> None:
        """Remember a stream until it ends, or end it where the others have been."""
        with self._lock:
            cancelled = self._cancelled
            self._contexts.add(context)
        if cancelled:
            context.cancel()
        if not context.add_callback(lambda: self._discard(context)):
            self._discard(context)

    def cancel(self) -> None:
        """End every stream, also those yet to come; its client sees CANCELLED."""
        with self._lock:
            self._cancelled = True
            contexts = list(self._contexts)
        for context in contexts:
            context.cancel()

    def _discard(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._contexts.discard(context)


class Health:
    """``grpc.health.v1.Health``, NOT_SERVING until told otherwise. Thread-safe.

    The keys are the server as a whole ("") and the bare service names that TensorFlow Serving
    uses, ``ModelService`` and ``PredictionService``.
    """

    def __init__(self, streams: OpenStreams) -> None:
        self._streams = streams
        self._servicer = health.HealthServicer()
        self.set_serving(False)

    def set_serving(self, serving: bool) -> None:
        """Answer SERVING, or NOT_SERVING, for every key from now on."""
        states = health_pb2.HealthCheckResponse
        for key in _HEALTH_KEYS:
            self._servicer.set(key, states.SERVING if serving else states.NOT_SERVING)

    def handler(self, pool: ThreadPoolExecutor) -> grpc.GenericRpcHandler:
        """The service's methods, run on the threads of ``pool``; no call waits on one."""
        request = health_pb2.HealthCheckRequest.FromString
        response = health_pb2.HealthCheckResponse.SerializeToString
        check = OnPool(self._servicer.Check, pool)
        watch = OnPool(self._watch, pool, non_blocking=True)
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Check": grpc.unary_unary_rpc_method_handler(check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, request, response),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    def _watch(
        self, request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]
    ) -> None:
        self._streams.add(context)
        self._servicer.Watch(request, context, send)


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
