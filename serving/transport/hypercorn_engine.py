"""HTTP/2 and HTTP/1.1 on hypercorn, which is written in Python throughout."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from serving.transport import stalled_body
from serving.transport.http_engine import AsgiApp
from serving.transport.http_options import HttpOptions
from serving.transport.hypercorn_connection import HypercornConnection
from serving.transport.tls import Certificate

_PROTOCOLS = ("h2", "http/1.1")


class HypercornEngine:
    """Implements HttpEngine. Without TLS, clients must know that they may begin with HTTP/2.

    A head has as long as an idle connection, five seconds, whatever the options say.
    """

    def __init__(self, app: AsgiApp, certificate: Certificate | None, options: HttpOptions) -> None:
        self._timeout_seconds = options.receive_timeout_seconds
        self._app = stalled_body.within(app, self._timeout_seconds, options.min_body_bytes)
        self._config = _Config()
        self._ssl = certificate.ssl_context(_PROTOCOLS) if certificate else None
        self._context = WorkerContext(None)
        self._connections: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._grace_seconds = 0.0
        self._serving: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        return self._serving is not None

    async def serve(self, listener: socket.socket, ready: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, sock=listener, ssl=self._ssl)
        self._serving = self._loop.create_task(self._serve(server))
        ready()
        with suppress(asyncio.CancelledError):
            await self._serving

    def stop(self, grace_seconds: float) -> None:
        assert self._loop is not None  # it was started
        with suppress(RuntimeError):  # it has stopped, and the loop is closed
            self._loop.call_soon_threadsafe(self._stop, grace_seconds)

    def _stop(self, grace_seconds: float) -> None:
        assert self._serving is not None
        if self._stopping.is_set():
            self._serving.cancel()
        self._grace_seconds = grace_seconds
        self._stopping.set()

    async def _serve(self, server: asyncio.Server) -> None:
        await self._stopping.wait()
        await self._context.terminated.set()
        server.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=self._grace_seconds)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # asyncio calls this in one
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with suppress(asyncio.CancelledError):  # which asyncio would log as a mistake
            await HypercornConnection(
                self._app, self._config, self._context, (reader, writer), self._timeout_seconds
            )


class _Config(Config):
    """With the log of this program."""

    accesslog = None
    errorlog = logging.getLogger("hypercorn.error")
    include_server_header = False
    keep_alive_max_requests = sys.maxsize  # at the last one it drops what is still being answered


_Config.errorlog.setLevel(logging.WARNING)
