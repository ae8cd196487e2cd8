"""The metrics of warm-up that TensorFlow Serving has, under its names."""

from __future__ import annotations

from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS

WARM_UP_RECORDS = "/tensorflow/serving/model_warmup_records_read"


class WarmUpMetrics:
    """Counts what is replayed to models before they serve. Thread-safe.

    It counts by directory of the version and by the name of the status code it ended with.
    """

    def __init__(self, metrics: Metrics) -> None:
        labels = ("model_path", "status")
        self._latency = metrics.histogram(
            "/tensorflow/serving/model_warmup_latency",
            "How long the warm-up of a version took, in microseconds.",
            labels,
            LATENCY_BOUNDS,
        )
        self._records = metrics.counter(
            WARM_UP_RECORDS,
            "The total number of warm-up records that were run.",
            labels,
        )

    def ended(self, model_path: str, status: str, records: int, seconds: float) -> None:
        """The warm-up of a version has ended, after so many records."""
        self._latency.observe(seconds * 1e6, model_path, status)
        self._records.increment(model_path, status, by=records)
