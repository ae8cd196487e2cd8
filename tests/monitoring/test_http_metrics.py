"""Requests over HTTP: counted by method and status, whatever becomes of them."""

from __future__ import annotations

import asyncio

import pytest

from serving.metrics.families import OTHER
from serving.metrics.registry import Metrics
from serving.monitoring.http_metrics import HttpMetrics


def counts_after(app, method: str = "GET") -> dict[tuple[str, ...], int]:
    metrics = Metrics()
    measured = HttpMetrics(metrics).measured(app)

    async def send(message) -> None:
        cells = metrics.snapshot()["model_server_http_requests_in_progress"].cells
        assert cells == {(): 1}

    try:
        asyncio.run(measured({"type": "http", "method": method}, None, send))
    finally:
        snapshot = metrics.snapshot()
        assert snapshot["model_server_http_requests_in_progress"].cells == {(): 0}
        cells = snapshot["model_server_http_request_duration_seconds"].cells
        counts_after.seen = {labels: sum(cell.counts) for labels, cell in cells.items()}
    return counts_after.seen


async def teapot(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 418})
    await send({"type": "http.response.body", "body": b""})


async def silent(scope, receive, send) -> None:
    """As for a client that has left."""


async def broken(scope, receive, send) -> None:
    raise KeyError("defect")


@pytest.mark.parametrize(
    ("method", "counted"), [("GET", "GET"), ("POST", "POST"), ("BREW", OTHER), ("get", OTHER)]
)
def test_a_request_counts_by_its_status_and_one_of_a_few_methods(method: str, counted: str):
    assert counts_after(teapot, method) == {(counted, "418"): 1}


def test_one_without_an_answer_counts_without_a_status():
    assert counts_after(silent) == {("GET", ""): 1}


def test_one_that_fails_is_counted_and_fails():
    with pytest.raises(KeyError):
        counts_after(broken)
    assert counts_after.seen == {("GET", ""): 1}
