"""The metrics of warm-up that TensorFlow Serving has, under its names."""

from __future__ import annotations

import threading

from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS

WARM_UP_RECORDS = "/tensorflow/serving/model_warmup_records_read"

_OK = "OK"
_MOST_FAILED = 100


class WarmUpMetrics:
    """Counts what is replayed to models before they serve. Thread-safe.

    It counts by directory of the version and by the name of the status code it ended with. What
    was counted goes with the version; of those whose warm-up failed the last 100 stay.
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
        self._lock = threading.Lock()
        self._succeeded: dict[tuple[str, str], str] = {}
        self._failed: dict[str, None] = {}

    def ended(
        self, version: tuple[str, str], model_path: str, status: str, records: int, seconds: float
    ) -> None:
        """The warm-up of a version, its model's name and number, ended after so many records."""
        self._latency.observe(seconds * 1e6, model_path, status)
        self._records.increment(model_path, status, by=records)
        with self._lock:
            self._failed.pop(model_path, None)
            if status == _OK:
                self._succeeded[version] = model_path
                return
            self._failed[model_path] = None
            if len(self._failed) <= _MOST_FAILED:
                return
            first = next(iter(self._failed))
            del self._failed[first]
        self._forget(first)

    def forget(self, version: tuple[str, str]) -> None:
        """The version is gone."""
        with self._lock:
            model_path = self._succeeded.pop(version, None)
        if model_path is not None:
            self._forget(model_path)

    def _forget(self, model_path: str) -> None:
        self._latency.forget(model_path=model_path)
        self._records.forget(model_path=model_path)
