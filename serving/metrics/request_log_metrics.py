"""The metric of request logs that TensorFlow Serving has, under its name."""

from __future__ import annotations

from serving.metrics.registry import Counter, Metrics


def request_log_count(metrics: Metrics) -> Counter:
    """Calls that were to be logged, by model and by the name of the status code it ended with."""
    return metrics.counter(
        "/tensorflow/serving/request_log_count",
        "The total number of requests logged, or dropped, by the request log.",
        ("model_name", "status_code"),
    )
