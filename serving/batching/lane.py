"""One queue as the scheduler sees it, and which queue has its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.batching.batch_queue import TaskQueue
from serving.batching.batching_options import Admission

HIGHEST_PRIORITY = 0


@dataclass(slots=True)
class Share:
    """The batch threads that queues of one version hold together; ``most`` None: any number."""

    most: int | None = None
    in_progress: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """What decides over the turns of a queue.

    It has ``weight`` turns in a row. A smaller ``priority`` goes first, unless a task of another
    has waited for ``max_wait_seconds``. No more batches of it are in progress than ``share`` has.
    ``admission`` says what is refused for the wait it would have.
    """

    share: Share = field(default_factory=Share)
    admission: Admission | None = None
    weight: int = 1
    priority: int = HIGHEST_PRIORITY
    max_wait_seconds: float = 1.0


class Lane:
    """A queue with its place among the others. ``priority``: smaller goes first."""

    __slots__ = (
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
        process: Callable[[Sequence[Any]], None],
        place: Place,
    ) -> None:
        self.number = number
        self.queue = queue
        self.process = process
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

    __slots__ = ("_last", "_left")

    def __init__(self) -> None:
        self._last = -1
        self._left = 0  # turns that the last one has left

    def order(self, lanes: Iterable[Lane], now: float) -> Sequence[Lane]:
        """The queues in the order in which they are to be asked for a batch."""
        ordered = list(lanes)
        if len(ordered) > 1:
            ordered.sort(key=lambda lane: self._rank(lane, now))
        return ordered

    def taken(self, lane: Lane) -> None:
        """The lane has had a turn."""
        if lane.number == self._last and self._left:
            self._left -= 1
        else:
            self._last, self._left = lane.number, lane.weight - 1

    def _rank(self, lane: Lane, now: float) -> tuple[int, bool, bool, int]:
        priority = lane.priority
        if priority > HIGHEST_PRIORITY and lane.queue.oldest_since + lane.max_wait_seconds <= now:
            priority = HIGHEST_PRIORITY
        goes_on = lane.number == self._last and self._left > 0
        return priority, not goes_on, lane.number <= self._last, lane.number
