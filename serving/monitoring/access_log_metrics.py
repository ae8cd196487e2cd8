"""What the access log lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.metrics.families import Cells, Description, Kind
from serving.metrics.registry import Metrics

_LACKING = Description(
    "model_server_access_log_lacking_calls_total",
    "Calls that have no line in the access log, and why.",
    Kind.COUNTER,
    ("reason",),
)


def sample_access_log(metrics: Metrics, lacking: Callable[[], Mapping[str, int]]) -> None:
    """Have ``lacking``, calls by reason, asked for whenever somebody wants to know."""

    def sample() -> dict[str, Cells]:
        return {_LACKING.name: {(reason,): calls for reason, calls in lacking().items()}}

    metrics.sampled([_LACKING], sample)
