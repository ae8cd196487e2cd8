"""Whether something that is done again and again is quick."""

from __future__ import annotations

_QUICK_SECONDS = 0.001
_SLOW_SECONDS = 0.020
_QUICK_RUNS_TO_COUNT_AS_QUICK = 16
_MOST_QUICK_RUNS_NEEDED = 4096
_SLOW_RUNS_TO_COUNT_AS_SLOW = 4
_RUNS_TO_FORGET_A_SLOW_ONE = 64


class Pace:
    """Learned from how long runs took: quick after a number of quick ones, until slow ones come
    close together.

    The time measured includes waiting for the interpreter lock and for a processor. So on a busy
    machine a single slow run says little, and nor does one that is neither quick nor slow: if they
    counted, what is sent the long way round because it was slow for once would be slow there, and
    stay. What turns out slow again and again has to be quick for longer each time. Used from any
    thread without a lock: a lost count delays the verdict only.
    """

    __slots__ = ("_last_slow", "_needed", "_quick_runs", "_runs", "_slow_runs", "quick")

    def __init__(self) -> None:
        self.quick = False
        self._needed = _QUICK_RUNS_TO_COUNT_AS_QUICK
        self._quick_runs = 0
        self._runs = 0
        self._slow_runs = 0  # close together
        self._last_slow = 0  # in runs

    def learn(self, seconds: float) -> None:
        """Take in how long one run took."""
        self._runs += 1
        if seconds > _SLOW_SECONDS:
            self._was_slow()
        elif not self.quick and seconds < _QUICK_SECONDS:
            self._quick_runs += 1
            if self._quick_runs >= self._needed:
                self.quick = True
                self._slow_runs = 0

    def _was_slow(self) -> None:
        if self._runs - self._last_slow > _RUNS_TO_FORGET_A_SLOW_ONE:
            self._slow_runs = 0
        self._last_slow = self._runs
        self._slow_runs += 1
        if self.quick and self._slow_runs >= _SLOW_RUNS_TO_COUNT_AS_SLOW:
            self.quick = False
            self._quick_runs = 0
            self._needed = min(2 * self._needed, _MOST_QUICK_RUNS_NEEDED)
