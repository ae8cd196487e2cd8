"""The REST API of a replica, as Ray's HTTP proxies reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.transport.http_engine import AsgiApp, AsgiMessage, AsgiReceive, AsgiSend


class ReplicaApp:
    """An ASGI app around the server's own.

    It answers to the application's ``route_prefix``, which Ray leaves in the path and names as the
    ``root_path``, and to the end of its lifespan, with which a replica ends: ``stop`` then runs.
    """

    def __init__(self, app: AsgiApp, stop: Callable[[], None]) -> None:
        self._app = app
        self._stop = stop

    async def __call__(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._app(_below_prefix(scope), receive, send)

    async def _live(self, receive: AsgiReceive, send: AsgiSend) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        # On a thread: the loop may still have calls to answer.
        await asyncio.to_thread(self._stop)
        await send({"type": "lifespan.shutdown.complete"})


def _below_prefix(scope: AsgiMessage) -> AsgiMessage:
    prefix: str = scope.get("root_path", "")
    if not prefix:
        return scope
    below = {**scope, "path": scope["path"].removeprefix(prefix)}
    if raw_path := scope.get("raw_path"):
        below["raw_path"] = raw_path.removeprefix(prefix.encode())
    return below
