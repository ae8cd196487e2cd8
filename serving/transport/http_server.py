"""The HTTP server: an ASGI app on an engine, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Callable

from serving.core.errors import Internal, Unavailable
from serving.transport.http_engine import AsgiApp, HttpEngine
from serving.transport.http_engines import new_engine
from serving.transport.http_options import HttpOptions
from serving.transport.tcp_port import bind
from serving.transport.tls import Certificate

if sys.platform == "win32":
    _new_event_loop = asyncio.new_event_loop
else:
    from uvloop import new_event_loop as _new_event_loop

log = logging.getLogger(__name__)


class HttpServer:
    """Runs one ASGI app, with a ``certificate`` by HTTPS. Signals, logging set-up and lifespan
    events are left to others.

    Raises FailedPrecondition where the engine that the options name is not installed.
    """

    def __init__(
        self, options: HttpOptions, app: AsgiApp, *, certificate: Certificate | None = None
    ) -> None:
        self._options = options
        self._port: int | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._engine: HttpEngine = new_engine(options, app, certificate)

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
        self._ready.wait()
        if not self._engine.started:
            raise Internal("the HTTP server did not start")
        self._port = listener.getsockname()[1]
        log.info(
            "Exporting HTTP/REST API at:%s:%d ...", self._options.host or "localhost", self._port
        )

    def call_soon(self, notify: Callable[[], None]) -> None:
        """Call back on the event loop when it comes round; here, if it has ended."""
        loop = self._loop
        try:
            assert loop is not None  # asked of a server that has started only
            loop.call_soon_threadsafe(notify)
        except RuntimeError:
            notify()

    def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let those in progress end within the grace, cancel the others.

        Returns when no call is left. A second call from another thread ends the grace.
        """
        if self._thread is None:
            return
        self._engine.stop(grace_seconds)
        self._thread.join()

    def _run(self, listener: socket.socket) -> None:
        try:
            with asyncio.Runner(loop_factory=_new_event_loop) as runner, listener:
                self._loop = runner.get_loop()
                runner.run(self._engine.serve(listener, self._ready.set))
        finally:
            self._ready.set()


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
