"""Whether something that is done again and again is quick."""

from __future__ import annotations

_QUICK_SECONDS = 0.001
_SLOW_SECONDS = 0.020
_QUICK_RUNS_TO_COUNT_AS_QUICK = 16


class Pace:
    """Learned from how long each run took: quick after a row of quick runs, until a slow one.

    What lies between the two says nothing: the time measured includes waiting for the
    interpreter lock. Used from any thread without a lock: a lost count delays the verdict only.
    """

    __slots__ = ("_quick_runs", "quick")

    def __init__(self) -> None:
        self.quick = False
        self._quick_runs = 0

    def learn(self, seconds: float) -> None:
        """Take in how long one run took."""
        if seconds > _SLOW_SECONDS:
            self.quick = False
            self._quick_runs = 0
        elif not self.quick and seconds < _QUICK_SECONDS:
            self._quick_runs += 1
            self.quick = self._quick_runs >= _QUICK_RUNS_TO_COUNT_AS_QUICK
