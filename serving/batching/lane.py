"""One queue as the scheduler sees it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
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
