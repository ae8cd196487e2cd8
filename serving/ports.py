"""The ports on which clients reach a server: opened when there is something to ask, and drained."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from serving.config.options import ServerOptions
from serving.config.tls_files import watch_tls_files
from serving.core.call import UnaryHandler
from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.monitoring.monitoring import Monitoring
from serving.observability.observation import Observation
from serving.server_core import ServerCore
from serving.transport.grpc_engine import unheard
from serving.transport.grpc_server import GrpcServer
from serving.transport.http_engine import AsgiApp
from serving.transport.http_server import HttpServer
from serving.transport.tls import Certificate

log = logging.getLogger(__name__)


class Ports:
    """The gRPC server, and the HTTP server where there is one; they share a certificate."""

    def __init__(
        self,
        options: ServerOptions,
        clock: Clock,
        observation: Observation,
        monitoring: Monitoring | None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._observation = observation
        self._monitoring = monitoring
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None
        self._certificate: Certificate | None = None
        self._grace_ends = 0.0
        self.is_ending = False

    @property
    def grpc(self) -> int | None:
        """The TCP port of gRPC; None when it listens on a unix socket alone, or not yet."""
        return self._grpc.port if self._grpc else None

    @property
    def rest(self) -> int | None:
        """The port of REST; None when there is none, or not yet."""
        return self._http.port if self._http else None

    def take_certificate(self) -> None:
        """Raise a ServingError now if the certificate of the options can not be used."""
        self._certificate = Certificate(self._options.tls) if self._options.tls else None

    def watch_certificate(self, running: ExitStack) -> None:
        """Show a certificate that was renewed, until ``running`` closes."""
        if self._certificate:
            files, interval = self._options.tls_files, self._options.tls_poll_wait_seconds
            watch_tls_files(files, self._certificate, interval, self._clock, running)

    def open_grpc(
        self,
        methods: Mapping[str, UnaryHandler],
        waiting: frozenset[str],
        core: ServerCore,
        running: ExitStack,
    ) -> None:
        """Answer gRPC calls; those of the methods ``waiting`` may take long.

        Raises a ServingError when the port can not be had.
        """
        self._grpc = grpc = GrpcServer(
            self._options.grpc,
            methods,
            waiting=waiting,
            certificate=self._certificate,
            model_health=core,
            observer=self._observation.observer,
            wrap=self._monitoring.measured_handler if self._monitoring else None,
            begun=self._monitoring.rpc_begun if self._monitoring else unheard,
        )
        grpc.start()
        if self._options.grpc.health_service:
            running.enter_context(
                core.bus.subscribe(lambda state: grpc.model_changed(state.id.name))
            )
        grpc.set_serving(True)

    def open_http(self, application: AsgiApp) -> None:
        """A REST port that cannot be had is logged: gRPC clients are served all the same."""
        if self._options.http is None:
            return
        certificate = self._certificate if self._options.rest_ssl else None
        http = HttpServer(self._options.http, application, certificate=certificate)
        try:
            http.start()
        except ServingError as error:
            log.error("Failed to start HTTP Server: %s", error.message)
        else:
            self._http = http

    def when_responsive(self, notify: Callable[[], None]) -> None:
        """Call back from the event loop of REST, or now where there is none: gRPC has a watch of
        its own over the thread that polls.
        """
        if self._http:
            self._http.call_soon(notify)
        else:
            notify()

    def announce_end(self) -> None:
        """Have health say that this server goes, and answer as before for the delay of the options:
        load balancers that ask for health take it out meanwhile.
        """
        self.is_ending = True
        if self._grpc:
            self._grpc.set_serving(False)
        self._clock.wait(threading.Event(), self._options.shutdown_delay_seconds)

    def close(self) -> None:
        """Let calls end within the grace period. Both servers drain at the same time, so that one
        such period is enough.
        """
        grace = self._options.shutdown_grace_seconds
        self._grace_ends = self._clock.monotonic() + grace
        stops: list[Callable[[float], None]] = []
        if self._grpc:
            stops.append(self._grpc.stop)
        if self._http:
            stops.append(self._http.stop)
        threads = [threading.Thread(target=stop, args=(grace,), name="drain") for stop in stops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def grace_left(self) -> float:
        """How many seconds of the grace period calls have left; negative when it is long over."""
        return self._grace_ends - self._clock.monotonic()
