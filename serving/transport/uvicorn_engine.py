"""HTTP/1.1 on uvicorn and httptools."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn

from serving.transport.http1_protocol import Http1Config, Http1Protocol
from serving.transport.http_engine import AsgiApp
from serving.transport.http_options import HttpOptions
from serving.transport.tls import Certificate


class UvicornEngine:
    """Implements HttpEngine."""

    def __init__(self, app: AsgiApp, certificate: Certificate | None, options: HttpOptions) -> None:
        self._config = Http1Config(
            app,
            http=Http1Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.receive_timeout_seconds = options.receive_timeout_seconds
        self._config.min_body_bytes = options.min_body_bytes
        self._config.load()
        self._config.ssl = certificate.ssl_context(("http/1.1",)) if certificate else None
        self._server = _Server(self._config)

    @property
    def started(self) -> bool:
        return self._server.started

    async def serve(self, listener: socket.socket, ready: Callable[[], object]) -> None:
        self._server.ready = ready
        await self._server.serve(sockets=[listener])

    def stop(self, grace_seconds: float) -> None:
        if self._server.should_exit:
            self._server.force_exit = True
        # uvicorn hands it to asyncio.wait_for, which takes fractions although this is typed int.
        self._config.timeout_graceful_shutdown = grace_seconds  # type: ignore[assignment]
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Says when it accepts connections."""

    ready: Callable[[], object]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()
