"""HTTP/1.1 by connections of our own on httptools."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate

from serving.transport.http1_connection import FLUSHING_SECONDS, Connection, Service
from serving.transport.http_engine import AsgiApp
from serving.transport.http_options import HttpOptions
from serving.transport.tls import Certificate

_BACKLOG = 2048
_DATE_SECONDS = 1
_LAST_WORDS_SECONDS = 1
_LOOK_SECONDS = 0.02  # from one look whether all has ended to the next, during a stop
_LINGER_SECONDS = 0.1  # in which requests that were under way when a stop began may arrive


class Http1Engine:
    """Implements HttpEngine."""

    def __init__(self, app: AsgiApp, certificate: Certificate | None, options: HttpOptions) -> None:
        self._service = Service(app, options.receive_timeout_seconds, options.min_body_bytes)
        self._ssl = certificate.ssl_context(("http/1.1",)) if certificate else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops: asyncio.Queue[float] = asyncio.Queue()  # with the grace of each
        self._is_serving = False

    @property
    def started(self) -> bool:
        return self._is_serving

    async def serve(self, listener: socket.socket, ready: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell_date()
        server = await self._loop.create_server(
            lambda: Connection(self._service),
            sock=listener,
            ssl=self._ssl,
            ssl_shutdown_timeout=FLUSHING_SECONDS if self._ssl else None,
            backlog=_BACKLOG,
        )
        self._is_serving = True
        ready()
        grace_seconds = await self._stops.get()
        server.close()
        await asyncio.sleep(_LINGER_SECONDS)
        self._service.is_finishing = True
        for connection in list(self._service.connections):
            connection.finish()
        await self._until_all_have_ended(grace_seconds)
        await self._end()

    def stop(self, grace_seconds: float) -> None:
        assert self._loop is not None  # it was started
        with suppress(RuntimeError):  # it has stopped, and the loop is closed
            self._loop.call_soon_threadsafe(self._stops.put_nowait, grace_seconds)

    def _tell_date(self) -> None:
        """As of each second, RFC 9110, 6.6.1."""
        assert self._loop is not None
        self._service.date = f"date: {formatdate(time.time(), usegmt=True)}\r\n".encode()
        self._loop.call_later(_DATE_SECONDS, self._tell_date)

    async def _until_all_have_ended(self, grace_seconds: float) -> None:
        """Wait for as long as the stop lets it, or until there is another."""
        ways_to_end = [asyncio.create_task(self._stops.get()), asyncio.create_task(self._empty())]
        await asyncio.wait(ways_to_end, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        for way in ways_to_end:
            way.cancel()

    async def _empty(self) -> None:
        while self._service.connections or self._service.company.tasks:
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end(self) -> None:
        """Cancel what is not answered; what it still says to its client is sent, if it is quick."""
        if tasks := self._service.company.tasks:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_LAST_WORDS_SECONDS)
        for connection in list(self._service.connections):
            connection.close()
        await asyncio.sleep(0)
