"""HTTP/2 and HTTP/1.1 on hypercorn, which is written in Python throughout."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress

from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets
from hypercorn.utils import wrap_app

from serving.transport import stalled_body
from serving.transport.http_engine import AsgiApp, AsgiMessage, AsgiReceive, AsgiSend
from serving.transport.http_options import HttpOptions
from serving.transport.tls import Certificate

_PROTOCOLS = ("h2", "http/1.1")


class HypercornEngine:
    """Implements HttpEngine. Without TLS, clients must know that they may begin with HTTP/2.

    A head has as long as an idle connection, five seconds, whatever the options say.
    """

    def __init__(self, app: AsgiApp, certificate: Certificate | None, options: HttpOptions) -> None:
        seconds, num_bytes = options.receive_timeout_seconds, options.min_body_bytes
        app = _answering_after_bodies(stalled_body.within(app, seconds, num_bytes))
        self._app = _without_lifespan(app)
        self._config = _Config()
        self._config.context = certificate.ssl_context(_PROTOCOLS) if certificate else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        return self._serving is not None

    async def serve(self, listener: socket.socket, ready: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        secure, plain = ([listener], []) if self._config.context else ([], [listener])
        self._serving = self._loop.create_task(
            worker_serve(
                wrap_app(self._app, 0, "asgi"),  # type: ignore[arg-type]  # its messages are dicts
                self._config,
                sockets=Sockets(secure, plain, []),
                shutdown_trigger=self._stopping.wait,
            )
        )
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
        self._config.graceful_timeout = grace_seconds
        self._stopping.set()


class _Config(Config):
    """With a context for TLS where others name files, and the log of this program."""

    context: ssl.SSLContext | None = None
    accesslog = None
    errorlog = logging.getLogger("hypercorn.error")
    include_server_header = False
    keep_alive_max_requests = sys.maxsize  # at the last one it drops what is still being answered

    @property
    def ssl_enabled(self) -> bool:
        return self.context is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self.context


_Config.errorlog.setLevel(logging.WARNING)


def _without_lifespan(app: AsgiApp) -> AsgiApp:
    """The app for requests; hypercorn takes no answer to anything else for a failure."""

    async def requests_only(scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})

    return requests_only


def _answering_after_bodies(app: AsgiApp) -> AsgiApp:
    """The app, whose answers over HTTP/2 are sent at once, but end only when their requests have.

    Where more of a body comes for a stream that has ended, hypercorn ends all of its connection.
    """

    async def answering(scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        has_more = True

        async def receive_noting() -> AsgiMessage:
            nonlocal has_more
            message = await receive()
            has_more = bool(message.get("more_body"))
            return message

        async def send_but_the_end(message: AsgiMessage) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last and has_more:
                await send({**message, "more_body": True})
                while has_more:
                    await receive_noting()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        if scope["http_version"] == "2":
            await app(scope, receive_noting, send_but_the_end)
        else:
            await app(scope, receive, send)

    return answering
