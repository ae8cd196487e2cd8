"""What is told of calls, and where to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """``endpoint`` is a collector's URL, of OTLP over gRPC; with https the connection uses TLS.

    ``sample_ratio`` is the share, 0 to 1, of those calls to trace whose clients do not say; None:
    as the variable OTEL_TRACES_SAMPLER has it, which is every call unless it is set.
    """

    endpoint: str
    sample_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class ObservabilityOptions:
    """``log_format`` is ``text`` or ``json``. ``access_log`` is a path, ``stdout``, or empty: none.

    ``tracing`` is None without traces. ``worker`` names this process where it is one of several.
    """

    log_format: str = "text"
    access_log: str = ""
    tracing: TracingOptions | None = None
    worker: str = ""
