"""The page of metrics, where what is on it can not be found out."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.apis.monitoring.page import MetricsPage
from serving.core.errors import Unavailable
from serving.metrics.registry import CountEverywhere, Metrics


def page_of(count_everywhere: CountEverywhere) -> tuple[int, bytes]:
    """Its status and body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        with ThreadPoolExecutor(1) as executor:
            page = MetricsPage("/p", Metrics(count_everywhere), executor)
            await page({"type": "http", "method": "GET", "path": "/p"}, receive, send)

    asyncio.run(ask())
    return sent[0]["status"], sent[1]["body"]


def test_there_is_no_page_while_the_other_processes_are_not_known() -> None:
    """Half a page would have counters go down."""

    def silent(_count: object) -> list[Any]:
        raise Unavailable("not known")

    assert page_of(silent) == (503, b"not known")
    assert page_of(lambda count: [count()]) == (200, b"")
