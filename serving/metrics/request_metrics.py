"""The metrics of requests that TensorFlow Serving has, under its names."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.metrics.buckets import exponential
from serving.metrics.cells import DistributionCell, NumberCell
from serving.metrics.registry import Counter, Metrics

LATENCY_BOUNDS = exponential(10, 1.8, 33)
"""Microseconds, up to some 24 minutes."""

_EXAMPLE_BOUNDS = exponential(1, 2, 15)
_OK = "OK"


def request_count(metrics: Metrics) -> Counter:
    """Requests answered, by model and by the name of the status code they ended with."""
    return metrics.counter(
        "/tensorflow/serving/request_count",
        "The total number of requests.",
        ("model_name", "status"),
    )


class RequestMetrics:
    """Counts the requests of one call of an API, and how long those took that ended well.

    ``api`` is as in ``Predict``, ``entrypoint`` is ``GRPC`` or ``REST``. Requests that fail may
    name models that there are none of: ``shown_name`` says under which name they count. Nothing is
    timed where metrics are not published. Thread-safe.
    """

    def __init__(
        self,
        metrics: Metrics,
        api: str,
        entrypoint: str,
        shown_name: Callable[[str], str] = str,
    ) -> None:
        self._call = (api, entrypoint)
        self._shown_name = shown_name
        self._count = request_count(metrics)
        self._is_timed = metrics.is_published
        self._latency = metrics.histogram(
            "/tensorflow/serving/request_latency",
            "How long requests took that ended well, in microseconds.",
            ("model_name", "API", "entrypoint"),
            LATENCY_BOUNDS,
        )
        self._of_models: dict[str, tuple[NumberCell, DistributionCell | None]] = {}

    def begun(self) -> float:
        """When a request began, for :meth:`answered`."""
        return time.perf_counter() if self._is_timed else 0.0

    def answered(self, model_name: str, status: str, began: float) -> None:
        """Count a request by the name of its status code."""
        if status != _OK:
            self._count.increment(self._shown_name(model_name), status)
            return
        cells = self._of_models.get(model_name) or self._new_cells(model_name)
        count, latency = cells
        count.add()
        if latency is not None:
            latency.observe((time.perf_counter() - began) * 1e6)

    def _new_cells(self, model_name: str) -> tuple[NumberCell, DistributionCell | None]:
        """Kept without a bound: only names of models end well."""
        count = self._count.cell(model_name, _OK)
        latency = self._latency.cell(model_name, *self._call) if self._is_timed else None
        self._of_models[model_name] = count, latency
        return count, latency


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
