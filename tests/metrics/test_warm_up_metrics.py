"""TensorFlow Serving's metrics of warm-up."""

from __future__ import annotations

from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS
from serving.metrics.warm_up_metrics import WARM_UP_RECORDS, WarmUpMetrics


def test_a_warm_up_counts_its_records_and_is_timed():
    metrics = Metrics()
    WarmUpMetrics(metrics).ended("/models/m/1", "OK", 7, 0.5)
    snapshot = metrics.snapshot()
    assert snapshot[WARM_UP_RECORDS].cells == {("/models/m/1", "OK"): 7}
    latency = snapshot["/tensorflow/serving/model_warmup_latency"]
    assert latency.description.bounds == LATENCY_BOUNDS
    assert latency.cells["/models/m/1", "OK"].sum == 500_000
