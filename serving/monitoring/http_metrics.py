"""Counts and times requests over HTTP, whatever API they are for."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from serving.metrics.families import OTHER
from serving.metrics.registry import Metrics
from serving.monitoring.bounds import CALL_SECONDS

_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Coroutine[Any, Any, None]]


class HttpMetrics:
    """Has requests counted by method and status, and timed until the answer is handed over.

    A request without an answer, because its client left or the app failed, counts without a
    status. Thread-safe.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.histogram(
            "model_server_http_request_duration_seconds",
            "HTTP requests by their status, from the request line to the answer.",
            ("method", "status"),
            CALL_SECONDS,
        )
        self._in_progress = metrics.gauge(
            "model_server_http_requests_in_progress", "HTTP requests that are not answered yet.", ()
        )

    def measured(self, app: App) -> App:
        """The ASGI app with all its requests counted."""
        in_progress = self._in_progress.cell().add

        async def measure(scope: Message, receive: Receive, send: Send) -> None:
            method = scope.get("method", "")
            status = ""

            async def sending(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            began = time.perf_counter()
            in_progress(1)
            try:
                await app(scope, receive, sending)
            finally:
                in_progress(-1)
                took = time.perf_counter() - began
                self._seconds.observe(took, method if method in _METHODS else OTHER, status)

        return measure
