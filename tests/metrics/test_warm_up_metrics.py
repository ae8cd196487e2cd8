"""TensorFlow Serving's metrics of warm-up."""

from __future__ import annotations

from serving.metrics import warm_up_metrics
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS
from serving.metrics.warm_up_metrics import WARM_UP_RECORDS, WarmUpMetrics

LATENCY = "/tensorflow/serving/model_warmup_latency"


def test_a_warm_up_counts_its_records_and_is_timed():
    metrics = Metrics()
    WarmUpMetrics(metrics).ended(("m", "1"), "/models/m/1", "OK", 7, 0.5)
    snapshot = metrics.snapshot()
    assert snapshot[WARM_UP_RECORDS].cells == {("/models/m/1", "OK"): 7}
    latency = snapshot[LATENCY]
    assert latency.description.bounds == LATENCY_BOUNDS
    assert latency.cells["/models/m/1", "OK"].sum == 500_000


def test_it_goes_with_the_version_but_the_last_that_failed_stay(monkeypatch):
    """Every version has a path of its own, so that there are ever more; failures are to be seen."""
    monkeypatch.setattr(warm_up_metrics, "_MOST_FAILED", 1)
    metrics = Metrics()
    warm_ups = WarmUpMetrics(metrics)

    def paths() -> list[str]:
        snapshot = metrics.snapshot()
        assert snapshot[LATENCY].cells.keys() == snapshot[WARM_UP_RECORDS].cells.keys()
        return [path for path, _ in snapshot[LATENCY].cells]

    for version, status in (("1", "OK"), ("2", "DATA_LOSS"), ("3", "OK")):
        warm_ups.ended(("m", version), f"/m/{version}", status, 1, 0.5)
    for version in ("1", "2"):
        warm_ups.forget(("m", version))
    assert paths() == ["/m/2", "/m/3"]
    warm_ups.ended(("m", "4"), "/m/4", "DATA_LOSS", 1, 0.5)
    assert paths() == ["/m/3", "/m/4"]
