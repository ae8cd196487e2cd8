"""Several ASGI apps behind one port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from serving.transport.http_engine import AsgiApp, AsgiMessage


def routed(apps: Mapping[str, AsgiApp], otherwise: AsgiApp) -> AsgiApp:
    """One app that hands a request to the app of its path, as it is, or to ``otherwise``."""

    async def route(
        scope: AsgiMessage,
        receive: Callable[[], Awaitable[AsgiMessage]],
        send: Callable[[AsgiMessage], Awaitable[None]],
    ) -> None:
        await apps.get(scope["path"], otherwise)(scope, receive, send)

    return route
