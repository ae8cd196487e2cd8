"""The metrics of requests that TensorFlow Serving has, under its names."""

from __future__ import annotations

import time
from typing import NamedTuple

from serving.metrics.buckets import exponential
from serving.metrics.registry import Counter, Metrics

LATENCY_BOUNDS = exponential(10, 1.8, 33)
"""Microseconds, up to some 24 minutes."""

_EXAMPLE_BOUNDS = exponential(1, 2, 15)
_OK = "OK"


class Call(NamedTuple):
    """Which call of an API, as in ``Predict``, and how it came: ``GRPC`` or ``REST``."""

    api: str
    entrypoint: str


def request_count(metrics: Metrics) -> Counter:
    """Requests answered, by model and by the name of the status code they ended with."""
    return metrics.counter(
        "/tensorflow/serving/request_count",
        "The total number of requests.",
        ("model_name", "status"),
    )


class RequestMetrics:
    """Counts requests, and how long those took that ended well. Thread-safe.

    Nothing is timed where metrics are not published.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._count = request_count(metrics)
        self._is_timed = metrics.is_published
        self._latency = metrics.histogram(
            "/tensorflow/serving/request_latency",
            "How long requests took that ended well, in microseconds.",
            ("model_name", "API", "entrypoint"),
            LATENCY_BOUNDS,
        )

    def begun(self) -> float:
        """When a request began, for :meth:`answered`."""
        return time.perf_counter() if self._is_timed else 0.0

    def answered(self, model_name: str, call: Call, status: str, began: float) -> None:
        """Count a request by the name of its status code."""
        self._count.increment(model_name, status)
        if self._is_timed and status == _OK:
            self._latency.observe((time.perf_counter() - began) * 1e6, model_name, *call)


class ExampleMetrics:
    """Counts the examples of requests to MultiInference. Thread-safe."""

    def __init__(self, metrics: Metrics) -> None:
        self._counts = metrics.histogram(
            "/tensorflow/serving/request_example_counts",
            "The number of tensorflow.Examples of a request.",
            ("model",),
            _EXAMPLE_BOUNDS,
        )
        self._total = metrics.counter(
            "/tensorflow/serving/request_example_count_total",
            "The total number of tensorflow.Examples.",
            ("model",),
        )

    def evaluated(self, model_name: str, num_examples: int) -> None:
        """A request with so many examples was run."""
        self._counts.observe(num_examples, model_name)
        self._total.increment(model_name, by=num_examples)
