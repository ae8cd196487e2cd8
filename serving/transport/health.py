"""gRPC's own way to ask a server whether it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from serving.transport.call_threads import OnPool
from serving.transport.open_streams import OpenStreams

HEALTH = "grpc.health.v1.Health"

_KEYS = frozenset({"", "ModelService", "PredictionService"})

_Send = Callable[[Any], None]


class Health:
    """``grpc.health.v1.Health``, NOT_SERVING until told otherwise. Thread-safe.

    The keys are the server as a whole ("") and the bare service names that TensorFlow Serving
    uses, ``ModelService`` and ``PredictionService``.

    The servicer that comes with grpcio is not used: it sends under the lock that it takes when a
    stream ends, on the thread that sending waits for, and so locks up the server when a client
    leaves at the moment of a change.
    """

    def __init__(self, streams: OpenStreams) -> None:
        self._streams = streams
        self._status = health_pb2.HealthCheckResponse.NOT_SERVING
        self._announcing = threading.Lock()  # keeps states in order; sending waits, and holds it
        self._lock = threading.Lock()  # for the watchers, in memory only
        self._watchers: set[_Send] = set()

    def set_serving(self, serving: bool) -> None:
        """Answer SERVING, or NOT_SERVING, for every key from now on, and tell those who watch."""
        states = health_pb2.HealthCheckResponse
        with self._announcing:
            self._status = states.SERVING if serving else states.NOT_SERVING
            with self._lock:
                watchers = list(self._watchers)
            for send in watchers:
                send(states(status=self._status))

    def handler(self, pool: ThreadPoolExecutor) -> grpc.GenericRpcHandler:
        """The service's methods, run on the threads of ``pool``; a watch holds none."""
        request = health_pb2.HealthCheckRequest.FromString
        response = health_pb2.HealthCheckResponse.SerializeToString
        check = OnPool(self._check, pool)
        watch = OnPool(self._watch, pool, non_blocking=True)
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Check": grpc.unary_unary_rpc_method_handler(check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, request, response),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    def _check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.service not in _KEYS:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=self._status)

    def _watch(self, request: Any, context: grpc.ServicerContext, send: _Send) -> None:
        """Tell the state now and at every change; an unknown key gets one that never changes."""
        self._streams.add(context)
        states = health_pb2.HealthCheckResponse
        if request.service not in _KEYS:
            send(states(status=states.SERVICE_UNKNOWN))
            return
        with self._announcing:
            with self._lock:
                self._watchers.add(send)
            if not context.add_callback(partial(self._forget, send)):
                self._forget(send)
            send(states(status=self._status))

    def _forget(self, send: _Send) -> None:
        with self._lock:
            self._watchers.discard(send)
