"""The batches of one queue that run, and which of their times can be compared."""

from __future__ import annotations

from typing import Any, NamedTuple

from serving.batching.batch_queue import Batch


class Ran(NamedTuple):
    """How long a batch took, and how many were in progress meanwhile, in the mean, with it."""

    seconds: float
    at_once: float


class BatchesInProgress:
    """Counts them, and says how many there were while one ran. Not thread-safe.

    ``setting`` is anything that says what batches are taken by. One that ran beside some of
    another setting tells nothing of either.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._begun: dict[Batch[Any], _Begun] = {}
        self._setting: object = None
        self._changes = 0  # of the setting, which may be an earlier one again
        self._since_change = 0  # how many of them were taken since
        self._seconds = 0.0  # of all of them together
        self._until = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._begun)

    def begin(self, batch: Batch[Any], setting: object, now: float) -> None:
        """It has been taken."""
        self._pass_time(now)
        if setting != self._setting:
            self._setting = setting
            self._changes += 1
            self._since_change = 0
        self._since_change += 1
        is_pure = self._since_change > self.count
        self._begun[batch] = _Begun(now, self._seconds, self._changes, is_pure)
        self.rows += batch.size

    def end(self, batch: Batch[Any], now: float) -> Ran | None:
        """It is done; None where some that were in progress meanwhile were of another setting."""
        self._pass_time(now)
        count = self.count
        begun = self._begun.pop(batch)
        self.rows -= batch.size
        if begun.changes != self._changes:
            return None
        self._since_change -= 1
        if not begun.is_pure:
            return None
        seconds = now - begun.at
        return Ran(seconds, (self._seconds - begun.seconds) / seconds if seconds > 0 else count)

    def _pass_time(self, now: float) -> None:
        self._seconds += self.count * max(0.0, now - self._until)
        self._until = now


class _Begun(NamedTuple):
    """When a batch was taken, and after how many changes of the setting: ``is_pure``, as all others
    in progress were.

    ``seconds``: what all batches of its queue together had run by then.
    """

    at: float
    seconds: float
    changes: int
    is_pure: bool
