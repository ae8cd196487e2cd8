"""The batches of one queue that run, and which of their times can be compared."""

from __future__ import annotations

from typing import Any

from serving.batching.batch_queue import Batch, Begun


class BatchesInProgress:
    """Counts them, and says how many there were while one ran. Not thread-safe.

    ``setting`` is anything that says what batches are taken by. One that ran beside some of
    another setting tells nothing of either.
    """

    def __init__(self) -> None:
        self.count = 0
        self.rows = 0
        self._setting: object = None
        self._of_setting = 0
        self._seconds = 0.0  # of all of them together
        self._until = 0.0

    def begin(self, batch: Batch[Any], setting: object, now: float) -> None:
        """It has been taken."""
        self._pass_time(now)
        if setting != self._setting:
            self._setting = setting
            self._of_setting = 0
        self.count += 1
        self.rows += batch.size
        self._of_setting += 1
        is_pure = self._of_setting == self.count
        batch.begun = Begun(now, self._seconds, setting, is_pure)

    def end(self, batch: Batch[Any], now: float) -> float | None:
        """It is done; how many were in progress meanwhile, in the mean, with it.

        None where some of them were of another setting.
        """
        begun = batch.begun
        if begun is None:
            return None
        self._pass_time(now)
        count = self.count
        self.count -= 1
        self.rows -= batch.size
        if begun.setting != self._setting:
            return None
        self._of_setting -= 1
        if not begun.is_pure:
            return None
        return (self._seconds - begun.seconds) / (now - begun.at) if now > begun.at else count

    def _pass_time(self, now: float) -> None:
        self._seconds += self.count * max(0.0, now - self._until)
        self._until = now
