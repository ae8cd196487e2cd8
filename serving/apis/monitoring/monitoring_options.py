"""What is published about the server."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True, slots=True)
class MonitoringOptions:
    """``path`` is that of the metrics on the REST port."""

    path: str = DEFAULT_PATH
