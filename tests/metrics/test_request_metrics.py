"""TensorFlow Serving's metrics of requests: their names, their buckets, what they count."""

from __future__ import annotations

import pytest

from serving.metrics.families import Distribution
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import ExampleMetrics, RequestMetrics

PREDICT = ("Predict", "GRPC")
LATENCY = "/tensorflow/serving/request_latency"


def test_latency_has_the_33_bounds_from_10_microseconds_that_grow_by_four_fifths():
    metrics = Metrics()
    RequestMetrics(metrics, *PREDICT)
    bounds = metrics.snapshot()[LATENCY].description.bounds
    assert bounds == pytest.approx([10 * 1.8**n for n in range(33)])


def test_examples_have_the_15_powers_of_two():
    metrics = Metrics()
    ExampleMetrics(metrics).evaluated("m", 3)
    snapshot = metrics.snapshot()
    counts = snapshot["/tensorflow/serving/request_example_counts"]
    assert counts.description.bounds == tuple(2.0**n for n in range(15))
    assert counts.cells == {("m",): Distribution((0, 0, 1, *[0] * 13), 3)}
    assert snapshot["/tensorflow/serving/request_example_count_total"].cells == {("m",): 3}


def test_every_request_is_counted_and_those_are_timed_that_ended_well():
    metrics = Metrics(is_published=True)
    requests = RequestMetrics(metrics, *PREDICT)
    for status in ("OK", "NOT_FOUND"):
        requests.answered("m", status, requests.begun())
    snapshot = metrics.snapshot()
    assert snapshot["/tensorflow/serving/request_count"].cells == {
        ("m", "NOT_FOUND"): 1,
        ("m", "OK"): 1,
    }
    (labels,) = snapshot[LATENCY].cells
    assert labels == ("m", "Predict", "GRPC")
    assert sum(snapshot[LATENCY].cells[labels].counts) == 1
    assert snapshot[LATENCY].cells[labels].sum > 0


def test_nothing_is_timed_that_nobody_can_read():
    metrics = Metrics()
    requests = RequestMetrics(metrics, *PREDICT)
    requests.answered("m", "OK", requests.begun())
    assert metrics.snapshot()[LATENCY].cells == {}
