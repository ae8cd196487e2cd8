"""The gRPC server. Which engine carries the calls is this file's secret."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from serving.core.call import UnaryHandler
from serving.core.call_observer import CallObserver
from serving.core.errors import ServingError, Unavailable
from serving.transport.channelz import channelz_methods
from serving.transport.grpc_engine import CallBegun, GrpcMethods, StreamMethod, unheard
from serving.transport.grpc_engines import new_engine
from serving.transport.grpc_options import GrpcOptions
from serving.transport.health import HAS_LIST, HEALTH, Health, ModelHealth
from serving.transport.observed_calls import observed
from serving.transport.reflection import REFLECTION, REFLECTION_V1ALPHA, Reflection
from serving.transport.tls import Certificate

log = logging.getLogger(__name__)


WrapHandler = Callable[[str, UnaryHandler], UnaryHandler]
"""Puts something around the handler of a method, by its path."""


class GrpcServer:
    """Serves unary methods by their full path, ``/package.Service/Method``, with reflection.

    Calls of the methods named in ``waiting`` may take minutes to answer. With a ``certificate``
    every port is encrypted. The health service, if it is offered, asks ``model_health``.
    An ``observer`` is told of every call of the methods, not of gRPC's own services. ``wrap`` is
    put around every unary method, also around those; ``begun`` hears of all other calls by the path
    of their method, which is empty where there is no such method.

    Thread-safe. Raises FailedPrecondition where the options want what is not installed.
    """

    def __init__(
        self,
        options: GrpcOptions,
        methods: Mapping[str, UnaryHandler],
        *,
        waiting: Collection[str] = frozenset(),
        certificate: Certificate | None = None,
        model_health: ModelHealth | None = None,
        observer: CallObserver | None = None,
        wrap: WrapHandler | None = None,
        begun: CallBegun = unheard,
    ) -> None:
        self._options = options
        self._certificate = certificate
        self._port: int | None = None
        self._health = Health(model_health) if options.health_service else None
        named = dict(observed(_wrapped(methods, wrap), observer))
        if options.channelz:
            named.update(_wrapped(channelz_methods(), wrap))
        completed = _completed(named, waiting, self._health, wrap)
        known = completed.unary.keys() | completed.streams.keys()
        completed = replace(
            completed,
            with_peer=observer is not None,
            begun=lambda path: begun(path if path in known else ""),
        )
        self._engine = new_engine(options, completed)

    @property
    def port(self) -> int | None:
        """The TCP port listened on; None before the start and without TCP."""
        return self._port

    def start(self) -> None:
        """Listen and serve. Raises Unavailable, naming the address, where it cannot listen."""
        try:
            self._listen()
        except ServingError:
            self._engine.stop(0)
            raise
        self._engine.start()
        if self._options.address:
            log.info("Running gRPC ModelServer at %s ...", self._bound_address())
        if self._options.socket_path:
            log.info("Running gRPC ModelServer at UNIX socket %s ...", self._options.socket_path)

    def set_serving(self, serving: bool) -> None:
        """What the health service answers, if it is offered; until the first call NOT_SERVING."""
        if self._health:
            self._health.set_serving(serving)

    def model_changed(self, name: str) -> None:
        """Tell those who watch the model's health, where that is another now."""
        if self._health:
            self._health.model_changed(name)

    def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let those in progress end within the grace, cancel the others.

        Calls that come during the stop end as UNAVAILABLE, which clients retry. Returns when no
        call is left. A second call from another thread may shorten the grace.
        """
        self.set_serving(False)
        self._engine.stop(grace_seconds)

    def _bound_address(self) -> str:
        return f"{self._options.address.rpartition(':')[0]}:{self._port}"

    def _listen(self) -> None:
        if self._options.address:
            self._port = self._add_port(self._options.address)
        if self._options.socket_path:
            _refuse_live_socket(self._options.socket_path)
            self._add_port(f"unix:{self._options.socket_path}")

    def _add_port(self, address: str) -> int:
        credentials = self._certificate.grpc_credentials() if self._certificate else None
        try:
            return self._engine.listen(address, credentials)
        except RuntimeError:
            raise Unavailable(
                f"gRPC cannot listen on {address}: it is in use, or is not an address of this host"
            ) from None


def _completed(
    methods: Mapping[str, UnaryHandler],
    waiting: Collection[str],
    health: Health | None,
    wrap: WrapHandler | None,
) -> GrpcMethods:
    """The methods with those of health, where it is offered, and of reflection."""
    unary = dict(methods)
    streams: dict[str, StreamMethod] = {}
    if health:
        checks: dict[str, UnaryHandler] = {f"/{HEALTH}/Check": health.check}
        if HAS_LIST:
            checks[f"/{HEALTH}/List"] = health.list
        unary |= _wrapped(checks, wrap)
        streams[f"/{HEALTH}/Watch"] = health
    reflection = Reflection(sorted({method.split("/")[1] for method in unary}))
    for service in (REFLECTION, REFLECTION_V1ALPHA):
        streams[f"/{service}/ServerReflectionInfo"] = reflection
    return GrpcMethods(unary, streams, waiting)


def _wrapped(
    methods: Mapping[str, UnaryHandler], wrap: WrapHandler | None
) -> Mapping[str, UnaryHandler]:
    if wrap is None:
        return methods
    return {path: wrap(path, handler) for path, handler in methods.items()}


def _refuse_live_socket(path: str) -> None:
    """Raise Unavailable when a process listens on the socket.

    gRPC replaces any socket file, so that one left behind by a process that died is taken over;
    one in use must not be.
    """
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise Unavailable(f"gRPC cannot listen on unix:{path}: another process listens on it")
