"""Which queue has its turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serving.batching.lane import HIGHEST_PRIORITY, Lane

_NOBODY = (-1, 0)


class Turns:
    """Whose turn it is: round robin by age, as in TensorFlow Serving, among equal priorities."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest: dict[int, tuple[int, int]] = {}  # by priority: who, and the turns it has left

    def order(self, lanes: Iterable[Lane], now: float) -> Sequence[Lane]:
        """The queues in the order in which they are to be asked for a batch."""
        ordered = list(lanes)
        if len(ordered) > 1:
            ordered.sort(key=lambda lane: self._rank(lane, now))
        return ordered

    def taken(self, lane: Lane, now: float, *, is_last: bool = False) -> None:
        """The lane has a turn; call it before its batch is taken.

        After the ``is_last`` of all there are, the first has the next turn, though others are
        added meanwhile.
        """
        priority = _priority(lane, now)
        last, left = self._latest.get(priority, _NOBODY)
        left = left - 1 if lane.number == last and left else lane.weight - 1
        self._latest[priority] = _NOBODY if is_last and not left else (lane.number, left)

    def _rank(self, lane: Lane, now: float) -> tuple[int, bool, bool, int]:
        priority = _priority(lane, now)
        last, left = self._latest.get(priority, _NOBODY)
        goes_on = lane.number == last and left > 0
        return priority, not goes_on, lane.number <= last, lane.number


def _priority(lane: Lane, now: float) -> int:
    """That in force: one that has waited for too long takes turns with the first."""
    if lane.queue.oldest_since + lane.max_wait_seconds <= now:
        return HIGHEST_PRIORITY
    return lane.priority
