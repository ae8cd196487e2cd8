"""gRPC's own way to ask a server whether it serves."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from serving.core.call import CallContext, Reply
from serving.core.errors import InvalidArgument, NotFound, ServingError
from serving.transport.grpc_engine import GrpcStream

HEALTH = "grpc.health.v1.Health"
HAS_LIST = hasattr(health_pb2, "HealthListResponse")
"""Whether the installed messages are of a time when health could be listed."""


class ModelHealth(Protocol):
    """What health is to know of models. Quick, and thread-safe."""

    def is_answering(self, name: str, version: int | None = None) -> bool | None:
        """Whether a model, or one version of it, answers requests; None where it is not known."""

    def model_names(self) -> Sequence[str]:
        """Those that are known."""


_KEYS = frozenset({"", "ModelService", "PredictionService"})
_VERSION_KEY = re.compile(r"(.+)/([0-9]{1,19})", re.DOTALL)
_States = health_pb2.HealthCheckResponse


class Health:
    """``grpc.health.v1.Health``, NOT_SERVING until told otherwise. Thread-safe.

    The keys are the server as a whole (""), the bare service names that TensorFlow Serving uses,
    ``ModelService`` and ``PredictionService``, the names of models, and ``model/version``. The
    object is the streaming method ``Watch``; :meth:`check` and :meth:`list` are the unary ones.

    The servicer that comes with grpcio is not used: it sends under the lock that it takes when a
    stream ends, on the thread that sending waits for, and so locks up the server when a client
    leaves at the moment of a change.
    """

    one_request = True

    def __init__(self, models: ModelHealth | None = None) -> None:
        """Where ``models`` has other answers than before, :meth:`model_changed` is called."""
        self._models = models
        self._serving = False
        self._announcing = threading.Lock()  # keeps states in order; an engine's send may wait
        self._lock = threading.Lock()  # for the watchers, in memory only
        self._watchers: dict[GrpcStream, _Watcher] = {}

    def set_serving(self, serving: bool) -> None:
        """From now on answer SERVING for what is served, or NOT_SERVING for every key, and tell
        those who watch.
        """
        with self._announcing:
            self._serving = serving
            self._tell(lambda _key: True)

    def model_changed(self, name: str) -> None:
        """Tell those who watch the model, or a version of it, where that makes a difference."""
        with self._announcing:
            self._tell(lambda key: key == name or key.rpartition("/")[0] == name)

    def check(self, request: bytes, _context: CallContext, reply: Reply) -> None:
        """The state now; raises NotFound for an unknown key."""
        status = self._status(_key(request))
        if status == _States.SERVICE_UNKNOWN:
            raise NotFound("unknown service")
        reply(_encoded(status))

    def list(self, _request: bytes, _context: CallContext, reply: Reply) -> None:
        """The state of the server, the services and every model now."""
        response = health_pb2.HealthListResponse()
        for key in (*_KEYS, *(self._models.model_names() if self._models else ())):
            response.statuses[key].status = self._status(key)
        reply(response.SerializeToString())

    def requested(self, stream: GrpcStream, request: bytes) -> None:
        """Tell the state now and at every change, also of a key that is unknown so far."""
        try:
            watcher = _Watcher(stream, _key(request))
        except ServingError as error:
            stream.end(error)
            return
        with self._announcing:
            with self._lock:
                self._watchers[stream] = watcher
            watcher.tell(self._status(watcher.key))

    def over(self, stream: GrpcStream) -> None:
        """Tell it nothing more."""
        with self._lock:
            self._watchers.pop(stream, None)

    def _tell(self, concerns: Callable[[str], bool]) -> None:
        with self._lock:
            watchers = [watcher for watcher in self._watchers.values() if concerns(watcher.key)]
        for watcher in watchers:
            watcher.tell(self._status(watcher.key))

    def _status(self, key: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        served = key in _KEYS or self._is_answering(key)
        if served is None:
            return _States.SERVICE_UNKNOWN
        return _States.SERVING if served and self._serving else _States.NOT_SERVING

    def _is_answering(self, key: str) -> bool | None:
        if self._models is None:
            return None
        answer = self._models.is_answering(key)
        if answer is None and (version := _VERSION_KEY.fullmatch(key)):
            answer = self._models.is_answering(version[1], int(version[2]))
        return answer


class _Watcher:
    """One stream, told what it has not been told last."""

    def __init__(self, stream: GrpcStream, key: str) -> None:
        self.key = key
        self._stream = stream
        self._told: health_pb2.HealthCheckResponse.ServingStatus | None = None

    def tell(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        if status != self._told:
            self._told = status
            self._stream.send(_encoded(status))


def _key(request: bytes) -> str:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(request).service)
    except DecodeError:
        raise InvalidArgument("the HealthCheckRequest cannot be parsed") from None


def _encoded(status: health_pb2.HealthCheckResponse.ServingStatus) -> bytes:
    return bytes(_States(status=status).SerializeToString())
