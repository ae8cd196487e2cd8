"""Time as an argument, so that tests can hold it still."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Where every part reads the time and waits. Thread-safe."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; deadlines are points on it."""

    def time(self) -> float:
        """Seconds since the epoch, for people."""

    def wait(self, event: threading.Event, timeout_seconds: float | None) -> bool:
        """Wait until the event is set (True) or the time is over (False); None: without end."""


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)  # read several times in every call
    time = staticmethod(time.time)

    def wait(self, event: threading.Event, timeout_seconds: float | None) -> bool:
        if timeout_seconds is not None and timeout_seconds > threading.TIMEOUT_MAX:
            timeout_seconds = None  # centuries, which Python refuses to wait for
        return event.wait(timeout_seconds)
