"""What the access log lacks is on the page as soon as it is so."""

from __future__ import annotations

from serving.metrics.registry import Metrics
from serving.monitoring.access_log_metrics import sample_access_log

NAME = "model_server_access_log_lacking_calls_total"


def test_calls_that_are_lacking_are_asked_for_by_reason():
    metrics = Metrics()
    lacking: dict[str, int] = {}
    sample_access_log(metrics, lambda: lacking)
    assert metrics.snapshot()[NAME].cells == {}
    lacking |= {"too_many": 3, "not_written": 0}
    assert metrics.snapshot()[NAME].cells == {("too_many",): 3, ("not_written",): 0}
