"""Threads that load or unload versions: so many at a time, but none waits for one that hangs."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition
from serving.core.servable_id import ServableId

log = logging.getLogger(__name__)

SECONDS_UNTIL_OVERDUE = 30.0
"""Work that has gone on for longer keeps its thread, but takes no longer anybody else's turn."""

_SECONDS_UNTIL_THREADS_MAY_START = 1.0

Work = Callable[[], None]


class Executor(Protocol):
    """Does work on versions in the background. Thread-safe."""

    def submit(self, servable_id: ServableId, work: Work, delay_seconds: float = 0) -> None:
        """Do ``work`` when its turn comes, which is not before the delay has passed."""

    def withdraw(self, servable_id: ServableId) -> Work | None:
        """Take back the work of this version; None when there is none, or it has begun."""

    def set_num_threads(self, num_threads: int) -> None:
        """Do so much at a time from now on; what has begun goes on."""

    def close(self) -> None:
        """Take no more work; returns when all that was submitted is done."""


ExecutorFactory = Callable[[int, str, Clock], Executor]
"""Makes what loads or unloads, from a number of threads, a name for them and a clock."""


@dataclass(frozen=True, slots=True, order=True)
class _Task:
    """Work that waits or goes on. Earlier ones come first, those for the same time in order."""

    due: float
    number: int
    servable_id: ServableId = field(compare=False)
    work: Work = field(compare=False)


class WorkThreads:
    """An :class:`Executor` with a thread for each work in progress. Thread-safe.

    At most ``num_threads`` go on at a time, not counting those that are overdue: a load that hangs
    costs its thread, and the next one begins on another. What waits for its delay to pass has no
    thread. All threads are daemons, so that none can keep a process that was told to end.
    """

    def __init__(self, num_threads: int, name: str, clock: Clock) -> None:
        """0 threads mean one, so that work is done one by one but never in the caller."""
        self._num_threads = max(1, num_threads)
        self._name = name
        self._clock = clock
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._waiting: list[_Task] = []
        self._begun: dict[_Task, float] = {}
        self._overdue: set[_Task] = set()
        self._closed = False
        self._wake = threading.Event()
        self._dispatcher: threading.Thread | None = None

    def submit(self, servable_id: ServableId, work: Work, delay_seconds: float = 0) -> None:
        """As :meth:`Executor.submit`; raises FailedPrecondition after :meth:`close`."""
        with self._changed:
            if self._closed:
                raise FailedPrecondition(f"no more {self._name} is begun: {servable_id}")
            self._start_dispatcher()
            due = self._clock.monotonic() + delay_seconds
            heapq.heappush(self._waiting, _Task(due, next(self._numbers), servable_id, work))
        self._wake.set()

    def withdraw(self, servable_id: ServableId) -> Work | None:
        """As :meth:`Executor.withdraw`."""
        with self._changed:
            for task in self._waiting:
                if task.servable_id == servable_id:
                    self._waiting.remove(task)
                    heapq.heapify(self._waiting)
                    self._changed.notify_all()
                    return task.work
        return None

    def set_num_threads(self, num_threads: int) -> None:
        """As :meth:`Executor.set_num_threads`."""
        with self._changed:
            self._num_threads = max(1, num_threads)
        self._wake.set()

    def close(self) -> None:
        """As :meth:`Executor.close`; for ever when work hangs."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not (self._waiting or self._begun or self._overdue))
            dispatcher, self._dispatcher = self._dispatcher, None
        self._wake.set()
        if dispatcher:
            dispatcher.join()

    def _start_dispatcher(self) -> None:
        if self._dispatcher is None:
            name = f"{self._name}-dispatcher"
            dispatcher = threading.Thread(
                target=self._dispatch_until_closed, name=name, daemon=True
            )
            dispatcher.start()
            self._dispatcher = dispatcher

    def _dispatch_until_closed(self) -> None:
        while True:
            self._wake.clear()
            seconds = self._dispatch()
            with self._changed:
                if self._dispatcher is None:
                    return
            self._clock.wait(self._wake, seconds)

    def _dispatch(self) -> float | None:
        """Begin all whose turn it is. Returns the seconds until time alone makes it another's."""
        with self._changed:
            now = self._clock.monotonic()
            overdue = [
                task for task, begun in self._begun.items() if now - begun >= SECONDS_UNTIL_OVERDUE
            ]
            for task in overdue:
                del self._begun[task]
                self._overdue.add(task)
            due = self._take_due(now)
        for task in overdue:
            log.warning(
                "%s of servable %s goes on for more than %g seconds; others no longer wait for it",
                self._name,
                task.servable_id,
                SECONDS_UNTIL_OVERDUE,
            )
        for task in due:
            self._begin(task)
        with self._changed:
            return self._seconds_until_next(now)

    def _take_due(self, now: float) -> list[_Task]:
        taken: list[_Task] = []
        while self._may_begin() and self._waiting[0].due <= now:
            task = heapq.heappop(self._waiting)
            self._begun[task] = now
            taken.append(task)
        return taken

    def _may_begin(self) -> bool:
        return bool(self._waiting) and len(self._begun) < self._num_threads

    def _begin(self, task: _Task) -> None:
        """Where the system has no thread to give, the work waits for one."""
        name = f"{self._name} {task.servable_id}"
        try:
            threading.Thread(target=self._run, args=(task,), name=name, daemon=True).start()
        except RuntimeError as error:
            log.warning("%s has to wait: %s", name, error)
            later = self._clock.monotonic() + _SECONDS_UNTIL_THREADS_MAY_START
            with self._changed:
                del self._begun[task]
                heapq.heappush(self._waiting, replace(task, due=later))

    def _run(self, task: _Task) -> None:
        try:
            task.work()
        except Exception:
            log.exception("%s of servable %s failed", self._name, task.servable_id)
        finally:
            self._end(task)
            self._wake.set()

    def _end(self, task: _Task) -> None:
        with self._changed:
            self._begun.pop(task, None)
            self._overdue.discard(task)
            self._changed.notify_all()

    def _seconds_until_next(self, now: float) -> float | None:
        moments = [begun + SECONDS_UNTIL_OVERDUE for begun in self._begun.values()]
        if self._may_begin():
            moments.append(self._waiting[0].due)
        return max(0.0, min(moments) - now) if moments else None
