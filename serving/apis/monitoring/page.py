"""The page of metrics, as an ASGI application."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.apis.monitoring.prometheus_text import prometheus_text
from serving.core.errors import ServingError, Unimplemented
from serving.metrics.registry import Metrics

_CONTENT_TYPE = {"content-type": "text/plain"}


class MetricsPage:
    """Answers every request with the metrics of all processes of the server.

    They are gathered on ``executor``, since other processes may take their time. Where it is not
    known what those hold, the answer is status 503: with less on the page, counters would go down.
    As in TensorFlow Serving any method will do, and a query is refused.
    """

    def __init__(self, path: str, metrics: Metrics, executor: Executor) -> None:
        self._path = path
        self._metrics = metrics
        self._executor = executor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise Unimplemented(f"the metrics page does not speak {scope['type']}")
        target = _target(scope)
        if target != self._path:
            text = f"Unexpected path: {target}. Should be {self._path}"
            response = Response(text, 400, _CONTENT_TYPE)
        else:
            loop = asyncio.get_running_loop()
            status, page = await loop.run_in_executor(self._executor, self._page)
            response = Response(page, status, _CONTENT_TYPE)
        await response(scope, receive, send)

    def _page(self) -> tuple[int, bytes]:
        try:
            families = self._metrics.total().values()
        except ServingError as error:
            return error.http_status, error.message.encode()
        # Names of models may hold what is no text: it came with a request.
        return 200, prometheus_text(families).encode("utf-8", "replace")


def _target(scope: Scope) -> str:
    """Path and query as they were sent."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("latin-1")
