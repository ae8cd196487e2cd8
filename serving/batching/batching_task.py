"""One request on its way through a batching queue, whole or in parts."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from serving.batching.batch import Feeds, joined_outputs, split_feeds
from serving.core.errors import (
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving.core.servable import Outputs, RunCallback, RunOptions

log = logging.getLogger(__name__)

_EXPIRED = "Run() timeout exceeded while waiting in batching queue"
_LATE = "The request cannot be done before its deadline, by the times that others took"
_STOPPED = "The server stopped before the request was run"
GIVEN_UP = "The call was given up while it waited in the batching queue"


class BatchingTask(NamedTuple):
    """The arguments of one run, the rows of its inputs, and since when it is queued."""

    feeds: Feeds
    fetches: Sequence[str]
    rows: int
    options: RunOptions
    done: RunCallback
    since: float = 0.0

    @property
    def deadline(self) -> float:
        """On the clock; inf where there is none."""
        deadline = self.options.deadline
        return math.inf if deadline is None else deadline

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        cancellation = self.options.cancellation
        return cancellation is not None and cancellation.cancelled

    def answer(self, result: Outputs | ServingError) -> None:
        """Call ``done``; what it raises is logged, for the batch has other tasks to answer."""
        try:
            self.done(result)
        except Exception:
            log.exception("the receiver of a batched run's result failed")


def answer_expired(tasks: Sequence[BatchingTask], now: float) -> Sequence[BatchingTask]:
    """All of a batch's tasks, unless every deadline is past: then none is to be run.

    RESOURCE_EXHAUSTED is the answer to them then. As in TensorFlow Serving, which runs expired
    tasks with the rest.
    """
    if any(task.deadline > now for task in tasks):
        return tasks
    for task in tasks:
        task.answer(ResourceExhausted(_EXPIRED))
    return ()


def answer_late(tasks: Sequence[BatchingTask], done_at: float) -> Sequence[BatchingTask]:
    """Those of a batch's tasks whose deadlines leave them until ``done_at``; DEADLINE_EXCEEDED is
    the answer to the others.
    """
    for task in tasks:
        if task.deadline < done_at:
            task.answer(DeadlineExceeded(_LATE))
    return [task for task in tasks if task.deadline >= done_at]


def answer_given_up(tasks: Sequence[BatchingTask]) -> Sequence[BatchingTask]:
    """Those that somebody waits for still; CANCELLED is the answer to the others, parts mostly."""
    wanted = []
    for task in tasks:
        if task.is_given_up:
            task.answer(Cancelled(GIVEN_UP))
        else:
            wanted.append(task)
    return wanted


def answer_stopped(tasks: Sequence[BatchingTask]) -> None:
    """UNAVAILABLE is the answer to tasks that no thread has taken before the end."""
    for task in tasks:
        task.answer(Unavailable(_STOPPED))


def split_task(task: BatchingTask, sizes: Sequence[int]) -> list[BatchingTask]:
    """Tasks of so many rows; when all are done, ``task`` is, with their outputs joined."""
    parts = _Parts(task, len(sizes))
    return [
        task._replace(feeds=feeds, rows=rows, done=partial(parts.done, index))
        for index, (feeds, rows) in enumerate(
            zip(split_feeds(task.feeds, sizes), sizes, strict=True)
        )
    ]


class _Parts:
    """Collects the results of one task's parts. The first error to arrive is the task's."""

    def __init__(self, task: BatchingTask, count: int) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._missing = count
        self._outputs: list[Outputs] = [()] * count
        self._error: ServingError | None = None

    def done(self, index: int, result: Outputs | ServingError) -> None:
        with self._lock:
            if isinstance(result, ServingError):
                self._error = self._error or result
            else:
                self._outputs[index] = result
            self._missing -= 1
            if self._missing:
                return
        self._task.answer(self._error or self._joined())

    def _joined(self) -> Outputs | ServingError:
        try:
            return joined_outputs(self._outputs)
        except ServingError as error:
            return error.untraced()
