"""HTTP/1.1 on uvicorn and httptools."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.transport.http_engine import AsgiApp
from serving.transport.tls import Certificate

_MOST_HEAD_BYTES = 2**20
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class UvicornEngine:
    """Implements HttpEngine."""

    def __init__(self, app: AsgiApp, certificate: Certificate | None) -> None:
        self._config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
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


class _Protocol(HttpToolsProtocol):
    """Ends a connection whose request head does not end: httptools would keep all of it."""

    _is_in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_complete()
