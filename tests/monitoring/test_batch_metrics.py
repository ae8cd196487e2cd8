"""Batches: TensorFlow Serving's numbers of them, and this server's."""

from __future__ import annotations

import pytest

from serving.batching.batch_listener import BatchFormed
from serving.core.servable_id import ServableId
from serving.metrics.families import Distribution
from serving.metrics.registry import Metrics
from serving.monitoring.batch_metrics import BatchMetrics

M7 = ServableId("m", 7)
PREFIX = "/tensorflow/serving/batching_session/"
OURS = "model_server_batch_"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def batches(metrics: Metrics) -> BatchMetrics:
    """After one batch: two requests of two inputs, with three rows and one of eight, 4 in all."""
    batches = BatchMetrics(metrics)
    batches.formed(M7, BatchFormed([0.001, 0.05], [2, 1], 2, 4, 8))
    return batches


def distribution(metrics: Metrics, name: str) -> dict[tuple[str, ...], tuple[int, float]]:
    cells = metrics.snapshot()[name].cells
    return {labels: (sum(cell.counts), pytest.approx(cell.sum)) for labels, cell in cells.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("queuing_latency", {("",): (2, 51_000)}),
        ("padding_size", {("4",): (1, 1)}),
        ("input_batch_size", {(): (4, 6)}),
        ("processed_batch_size", {(): (1, 4)}),
    ],
)
def test_what_tensorflow_serving_has(metrics: Metrics, batches: BatchMetrics, name, expected):
    assert distribution(metrics, PREFIX + name) == expected


def test_batches_are_counted(metrics: Metrics, batches: BatchMetrics):
    assert metrics.snapshot()[f"{PREFIX}wrapped_run_count"].cells == {(): 1}


def test_the_bounds_are_those_of_tensorflow_serving(metrics: Metrics, batches: BatchMetrics):
    found = {
        name.removeprefix(PREFIX): family.description.bounds
        for name, family in metrics.snapshot().items()
        if name.startswith(PREFIX) and family.description.bounds
    }
    powers = tuple(2.0**n for n in range(14))
    assert found.pop("queuing_latency") == pytest.approx([100 * 1.2**n for n in range(52)])
    sizes = ("padding_size", "input_batch_size", "processed_batch_size")
    assert found == dict.fromkeys(sizes, powers)


def test_how_full_a_batch_was_leaves_out_what_fills_it_up(metrics: Metrics, batches: BatchMetrics):
    fill = metrics.snapshot()[f"{OURS}fill_ratio"].cells["m", "7"]
    assert fill == Distribution((0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0), 0.375)


def test_the_wait_of_each_request_is_that_of_its_version(metrics: Metrics, batches: BatchMetrics):
    found = distribution(metrics, f"{OURS}queue_duration_seconds")
    assert found == {("m", "7"): (2, 0.051)}


def test_queues_are_asked_how_long_they_are(metrics: Metrics, batches: BatchMetrics):
    batches.sample_queues(lambda: {M7: 12})
    assert metrics.snapshot()[f"{OURS}queue_rows"].cells == {("m", "7"): 12}


def test_a_version_that_is_gone_is_forgotten(metrics: Metrics, batches: BatchMetrics):
    batches.formed(ServableId("m", 8), BatchFormed([0.0], [1], 1, 1, 8))
    batches.forget(M7)
    for name in ("fill_ratio", "queue_duration_seconds"):
        assert list(metrics.snapshot()[OURS + name].cells) == [("m", "8")]
