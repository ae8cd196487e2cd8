"""The threads of a scheduler: which of them sleep, which are to be woken, and which are missing."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator

from serving.batching.lane import Lane


class BatchThread:
    """A batch thread and what wakes it. ``lost``: its batch does not come back."""

    __slots__ = ("busy_since", "busy_until", "lane", "lost", "number", "thread", "wake")

    def __init__(self, number: int, work: Callable[[BatchThread], None], name: str) -> None:
        self.number = number
        self.wake = threading.Event()
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)
        self.rest()

    def busy(self, lane: Lane, size: int, now: float) -> None:
        """A batch of so many rows begins."""
        self.lane: Lane | None = lane
        self.busy_since = now
        self.busy_until = now + lane.queue.expected_run(size)

    def rest(self) -> None:
        """Its batch has come back."""
        self.lane = None
        self.busy_since = math.inf
        self.busy_until = -math.inf
        self.lost = False


class BatchThreads:
    """All of them. Not thread-safe: the scheduler's lock is held for every method.

    Those without work sleep until they are woken, and at most one of them, the timekeeper, until
    the first batch will be ready.
    """

    def __init__(self, count: int, name: str, work: Callable[[BatchThread], None]) -> None:
        """``count``: how many there should be. ``work`` is what each does until it is to end."""
        self.count = count
        self._name = name
        self._work = work
        self._threads: set[BatchThread] = set()
        self._idle: list[BatchThread] = []
        self._timekeeper: BatchThread | None = None
        self._timekeeper_until = math.inf

    def __iter__(self) -> Iterator[BatchThread]:
        return iter(self._threads)

    @property
    def any_idle(self) -> bool:
        """Whether one sleeps."""
        return bool(self._idle)

    @property
    def surplus(self) -> int:
        """How many there are too many; negative: that are missing."""
        return sum(not thread.lost for thread in self._threads) - self.count

    def start_missing(self) -> None:
        """Start as many as are missing."""
        while self.surplus < 0:
            taken = {thread.number for thread in self._threads}
            number = next(number for number in itertools.count() if number not in taken)
            thread = BatchThread(number, self._work, f"{self._name}_{number}")
            thread.thread.start()  # which may fail; the thread begins with waiting for the lock
            self._threads.add(thread)

    def lose_hung(self, latest: float) -> int:
        """Count those as lost whose batch began then or before; how many more these are."""
        hung = [thread for thread in self if thread.busy_since <= latest and not thread.lost]
        for thread in hung:
            thread.lost = True
        return len(hung)

    def helper_for(self, ready_at: float, now: float) -> BatchThread | None:
        """The sleeping thread that must be woken so that a batch is taken when it is ready.

        None where all are busy, for they look before they sleep, and where the timekeeper will
        wake early enough.
        """
        timed = ready_at > now
        if not self._idle or ready_at == math.inf or (timed and self._timekeeper_until <= ready_at):
            return None
        thread = self._idle[-1]
        self.leave_idle(thread)
        return thread

    def begin_to_sleep(self, thread: BatchThread, ready_at: float, now: float) -> float | None:
        """Seconds to sleep, None for as long as nobody wakes it; 0 when a batch is ready."""
        if ready_at <= now:
            return 0
        thread.wake.clear()
        self._idle.append(thread)
        if ready_at == math.inf or self._timekeeper_until <= ready_at:
            return None
        self._timekeeper, self._timekeeper_until = thread, ready_at
        return ready_at - now

    def leave_idle(self, thread: BatchThread) -> None:
        """It is awake."""
        if thread in self._idle:
            self._idle.remove(thread)
        if thread is self._timekeeper:
            self._timekeeper, self._timekeeper_until = None, math.inf

    def leave_idle_all(self) -> None:
        """None of them is to be woken for a batch any more."""
        self._idle.clear()

    def wake_all(self) -> None:
        """Have every one look around."""
        for thread in self._threads:
            thread.wake.set()

    def leave(self, thread: BatchThread) -> None:
        """It ends."""
        self._threads.discard(thread)


def wake(thread: BatchThread | None) -> None:
    """Wake the thread that :meth:`BatchThreads.helper_for` named; outside the lock."""
    if thread is not None:
        thread.wake.set()
