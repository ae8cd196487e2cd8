"""The HTTP server: an ASGI app on uvicorn, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import uvicorn

from serving.core.errors import Internal, Unavailable
from serving.transport.tcp_port import bind
from serving.transport.tls import Certificate

if sys.platform == "win32":
    _new_event_loop = asyncio.new_event_loop
else:
    from uvloop import new_event_loop as _new_event_loop

log = logging.getLogger(__name__)

AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[
    [AsgiMessage, Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]],
    Awaitable[None],
]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where to listen. Without ``host``: on every address, IPv6 and IPv4. Port 0: any free one.

    ``shared``: further processes listen there too.
    """

    host: str = ""
    port: int = 8501
    shared: bool = False


class HttpServer:
    """Runs one ASGI app, with a ``certificate`` by HTTPS. Signals, logging set-up and lifespan
    events are left to others.
    """

    def __init__(
        self, options: HttpOptions, app: AsgiApp, *, certificate: Certificate | None = None
    ) -> None:
        self._options = options
        self._port: int | None = None
        self._thread: threading.Thread | None = None
        self._config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._config.ssl = certificate.ssl_context() if certificate else None
        self._server = _Server(self._config)

    @property
    def port(self) -> int | None:
        """The port listened on; None before the start."""
        return self._port

    def start(self) -> None:
        """Listen and serve. Raises Unavailable, naming the address, where it cannot listen."""
        listener = _listen(self._options)
        self._thread = threading.Thread(
            target=self._run, args=(listener,), name="http", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()
        if not self._server.started:
            raise Internal("the HTTP server did not start")
        self._port = listener.getsockname()[1]
        log.info(
            "Exporting HTTP/REST API at:%s:%d ...", self._options.host or "localhost", self._port
        )

    def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let those in progress end within the grace, cancel the others.

        Returns when no call is left. A second call from another thread ends the grace.
        """
        if self._thread is None:
            return
        if self._server.should_exit:
            self._server.force_exit = True
        # uvicorn hands it to asyncio.wait_for, which takes fractions although this is typed int.
        self._config.timeout_graceful_shutdown = grace_seconds  # type: ignore[assignment]
        self._server.should_exit = True
        self._thread.join()

    def _run(self, listener: socket.socket) -> None:
        try:
            with asyncio.Runner(loop_factory=_new_event_loop) as runner, listener:
                runner.run(self._server.serve(sockets=[listener]))
        finally:
            self._server.ready.set()


class _Server(uvicorn.Server):
    """Says when it accepts connections, or when it never will."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _listen(options: HttpOptions) -> socket.socket:
    try:
        listener = bind(options.host, options.port, shared=options.shared)
        # Listening at once: two servers that had only bound would find out too late.
        try:
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise Unavailable(
            f"HTTP cannot listen on {options.host or '[::]'}:{options.port}: {error.strerror}"
        ) from None
    return listener
