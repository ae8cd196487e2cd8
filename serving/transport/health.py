"""gRPC's own way to ask a server whether it serves."""

from __future__ import annotations

import threading

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from serving.core.call import CallContext, Reply
from serving.core.errors import InvalidArgument, NotFound, ServingError
from serving.transport.grpc_engine import GrpcStream

HEALTH = "grpc.health.v1.Health"

_KEYS = frozenset({"", "ModelService", "PredictionService"})
_States = health_pb2.HealthCheckResponse


class Health:
    """``grpc.health.v1.Health``, NOT_SERVING until told otherwise. Thread-safe.

    The keys are the server as a whole ("") and the bare service names that TensorFlow Serving
    uses, ``ModelService`` and ``PredictionService``. The object is the streaming method ``Watch``;
    :meth:`check` is the unary one.

    The servicer that comes with grpcio is not used: it sends under the lock that it takes when a
    stream ends, on the thread that sending waits for, and so locks up the server when a client
    leaves at the moment of a change.
    """

    one_request = True

    def __init__(self) -> None:
        self._status = _encoded(_States.NOT_SERVING)
        self._announcing = threading.Lock()  # keeps states in order; an engine's send may wait
        self._lock = threading.Lock()  # for the watchers, in memory only
        self._watchers: set[GrpcStream] = set()

    def set_serving(self, serving: bool) -> None:
        """Answer SERVING, or NOT_SERVING, for every key from now on, and tell those who watch."""
        with self._announcing:
            self._status = _encoded(_States.SERVING if serving else _States.NOT_SERVING)
            with self._lock:
                watchers = list(self._watchers)
            for watcher in watchers:
                watcher.send(self._status)

    def check(self, request: bytes, _context: CallContext, reply: Reply) -> None:
        """The state now; raises NotFound for an unknown key."""
        if _key(request) not in _KEYS:
            raise NotFound("unknown service")
        reply(self._status)

    def requested(self, stream: GrpcStream, request: bytes) -> None:
        """Tell the state now and at every change; an unknown key gets one that never changes."""
        try:
            key = _key(request)
        except ServingError as error:
            stream.end(error)
            return
        if key not in _KEYS:
            stream.send(_encoded(_States.SERVICE_UNKNOWN))
            return
        with self._announcing:
            with self._lock:
                self._watchers.add(stream)
            stream.send(self._status)

    def over(self, stream: GrpcStream) -> None:
        """Tell it nothing more."""
        with self._lock:
            self._watchers.discard(stream)


def _key(request: bytes) -> str:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(request).service)
    except DecodeError:
        raise InvalidArgument("the HealthCheckRequest cannot be parsed") from None


def _encoded(status: health_pb2.HealthCheckResponse.ServingStatus) -> bytes:
    return bytes(_States(status=status).SerializeToString())
