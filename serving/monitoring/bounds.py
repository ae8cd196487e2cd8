"""Bounds of this server's own histograms, in seconds, as Prometheus has it."""

from __future__ import annotations

from serving.metrics.buckets import exponential

CALL_SECONDS = exponential(0.0001, 2, 20)
"""0.1 ms to 52 s."""

LOAD_SECONDS = exponential(0.01, 2, 18)
"""10 ms to 22 min."""
