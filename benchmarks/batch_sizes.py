"""How many rows the batches of a server have had, by its metrics page."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

_PAGE = "/monitoring/prometheus/metrics"
_SERIES = r"^:tensorflow:serving:batching_session:processed_batch_size_{}(?:\{{\}})? ([0-9.e+]+)$"
_SECONDS = 30
MONITORING_CONFIG = f'prometheus_config {{ enable: true path: "{_PAGE}" }}\n'


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Batches that have been run so far, and their rows, with those that fill them up."""

    batches: float
    rows: float

    def mean_since(self, before: BatchSizes) -> float | None:
        """Rows of a batch since then; None where there was no batch."""
        batches = self.batches - before.batches
        return (self.rows - before.rows) / batches if batches else None


def batch_sizes(port: int) -> BatchSizes:
    """Of the server whose REST API is at this port; none of a server that has run no batch."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{_PAGE}", timeout=_SECONDS) as answer:
        page = answer.read().decode()
    return BatchSizes(_value(page, "count"), _value(page, "sum"))


def _value(page: str, series: str) -> float:
    found = re.search(_SERIES.format(series), page, re.MULTILINE)
    return float(found[1]) if found else 0.0
