"""Recording what the process does for a while."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """For how long, and how closely to look; the levels are TensorFlow's, 0 is not at all.

    ``delay_seconds`` passes before the recording begins.
    """

    seconds: float
    host_level: int = 2
    device_level: int = 1
    python_level: int = 0
    delay_seconds: float = 0.0


class Trace(NamedTuple):
    """What was recorded, a serialized tensorflow.profiler.XSpace; ``is_empty``: of no event."""

    encoded: bytes
    is_empty: bool


class Profiler(Protocol):
    """Records one trace at a time. Thread-safe."""

    def trace(self, options: TraceOptions, stop: threading.Event) -> Trace:
        """Record until the time is over or ``stop`` is set; blocks as long.

        Raises AlreadyExists while somebody else in the process records one.
        """

    def summary(self, trace: Trace, most_events: int) -> str:
        """For people: on what the time went, by the events that took most."""
