"""One queue as the scheduler sees it, and which queue has its turn."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.batching.batch_queue import TaskQueue
from serving.batching.batching_options import Admission

HIGHEST_PRIORITY = 0
_NOBODY = (-1, 0)


@dataclass(slots=True)
class Share:
    """The batch threads that queues of one version hold together; ``most`` None: any number."""

    most: int | None = None
    in_progress: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """What decides over the turns of a queue.

    It has ``weight`` turns in a row. A smaller ``priority`` goes first; tasks that have waited for
    ``max_wait_seconds`` count among the first. No more batches of it are in progress than ``share``
    has. ``admission`` says what is refused for the wait it would have.
    """

    share: Share = field(default_factory=Share)
    admission: Admission | None = None
    weight: int = 1
    priority: int = HIGHEST_PRIORITY
    max_wait_seconds: float = math.inf


class Lane:
    """A queue with its place among the others. ``priority``: smaller goes first."""

    __slots__ = (
        "abandon",
        "admission",
        "announced",
        "drained",
        "in_progress",
        "max_wait_seconds",
        "number",
        "priority",
        "process",
        "queue",
        "share",
        "weight",
    )

    def __init__(
        self,
        number: int,
        queue: TaskQueue[Any],
        process: Callable[[Sequence[Any]], bool],
        place: Place,
        abandon: Callable[[Sequence[Any]], None] | None = None,
    ) -> None:
        self.number = number
        self.queue = queue
        self.process = process
        self.abandon = abandon
        self.weight = place.weight
        self.priority = place.priority
        self.max_wait_seconds = place.max_wait_seconds
        self.share = place.share
        self.admission = place.admission
        self.in_progress = 0
        self.announced = False  # a thread was woken for the batch that is ready now
        self.drained = threading.Event()


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
