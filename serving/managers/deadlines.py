"""Calls back when a point in time has passed, for those who wait without a thread of their own."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from serving.core.clock import Clock

_FEW = 64
"""So many are not worth a look at which of them are cancelled."""


class Deadline:
    """One point in time, until it has passed or is cancelled."""

    __slots__ = ("at", "passed")

    def __init__(self, at: float, passed: Callable[[], None]) -> None:
        self.at = at
        self.passed: Callable[[], None] | None = passed

    def cancel(self) -> None:
        """It matters no more. A call that has begun is not undone."""
        self.passed = None


class Deadlines:
    """Deadlines in monotonic seconds, and the thread that waits for the next of them. Thread-safe.

    The thread sleeps while there are none. Callbacks must be quick and must not raise.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._too_many = _FEW
        self._changed = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)

    def start(self) -> None:
        """Begin to call back."""
        self._thread.start()

    def stop(self) -> None:
        """Call back no more. Idempotent."""
        self._stopping = True
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, at: float, passed: Callable[[], None]) -> Deadline:
        """Call ``passed`` once this point in time has passed."""
        deadline = Deadline(at, passed)
        with self._lock:
            if len(self._pending) >= self._too_many:
                self._sweep()
            heapq.heappush(self._pending, (at, next(self._numbers), deadline))
            is_next = self._pending[0][2] is deadline
        if is_next:
            self._changed.set()
        return deadline

    def tick(self) -> None:
        """Call back for everything that has passed by now."""
        while (deadline := self._next_passed()) is not None:
            if passed := deadline.passed:
                passed()

    def _sweep(self) -> None:
        """Drop what is cancelled, as nearly all are long before their time.

        Done at twice what the last sweep left, it costs each addition next to nothing.
        """
        self._pending = [entry for entry in self._pending if entry[2].passed]
        heapq.heapify(self._pending)
        self._too_many = max(_FEW, 2 * len(self._pending))

    def _next_passed(self) -> Deadline | None:
        with self._lock:
            if not self._pending or self._pending[0][0] > self._clock.monotonic():
                return None
            return heapq.heappop(self._pending)[2]

    def _seconds_to_next(self) -> float | None:
        with self._lock:
            if not self._pending:
                return None
            return max(0.0, self._pending[0][0] - self._clock.monotonic())

    def _run(self) -> None:
        while not self._stopping:
            self._changed.clear()
            self.tick()
            if not self._stopping:
                self._clock.wait(self._changed, self._seconds_to_next())
