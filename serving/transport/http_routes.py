"""Several ASGI apps behind one port."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from serving.transport.http_engine import AsgiApp, AsgiMessage, AsgiReceive, AsgiSend


def routed(apps: Mapping[str, AsgiApp], otherwise: AsgiApp) -> AsgiApp:
    """One app that hands a request to the app of its path, as it is, or to ``otherwise``."""

    def route(
        scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend
    ) -> Coroutine[Any, Any, None]:
        return apps.get(scope["path"], otherwise)(scope, receive, send)

    return route
