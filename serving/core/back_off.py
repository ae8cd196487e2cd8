"""How long to wait before a process that ended is started again."""

from __future__ import annotations

from serving.core.clock import Clock

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_STEADY_SECONDS = 60.0


class BackOff:
    """Half a second, then twice as long after each further end, half a minute at most.

    A process that ran for a minute begins anew: what ended it is not how it starts.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds = _FIRST_SECONDS
        self._started_at = clock.monotonic()

    def started(self) -> None:
        """The process has been started."""
        self._started_at = self._clock.monotonic()

    def ended(self) -> float:
        """The process has ended; returns the seconds to wait."""
        if self._clock.monotonic() - self._started_at >= _STEADY_SECONDS:
            self._seconds = _FIRST_SECONDS
        seconds = self._seconds
        self._seconds = min(2 * seconds, _LONGEST_SECONDS)
        return seconds
