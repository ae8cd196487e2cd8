"""The numbers behind metrics: cheap to change from many threads, exact when they are read."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence

from serving.metrics.families import Distribution

_MOST_PENDING = 128


class _Cell(ABC):
    """Gathers changes in a list, whose single operations need no lock, and takes them in together.

    A lock for each change would cost as much as all the rest, and a method for the three lines
    that the changes of both kinds of cells have in common a third of it.
    """

    __slots__ = ("_lock", "_pending")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[float] = []

    def _take_in_pending(self) -> None:
        pending = self._pending
        with self._lock:
            count = len(pending)  # others go on at the end meanwhile
            self._take_in(pending[:count])
            del pending[:count]

    @abstractmethod
    def _take_in(self, changes: Sequence[float]) -> None:
        """Called under the lock."""


class NumberCell(_Cell):
    """One number. Thread-safe."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        super().__init__()
        self._value: int | float = 0

    def add(self, by: float = 1) -> None:
        pending = self._pending
        pending.append(by)
        if len(pending) >= _MOST_PENDING:
            self._take_in_pending()

    def value(self) -> int | float:
        self._take_in_pending()
        return self._value

    def _take_in(self, changes: Sequence[float]) -> None:
        self._value += sum(changes)


class DistributionCell(_Cell):
    """Observations by bucket. Thread-safe."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count it in the first bucket whose bound is not below it."""
        pending = self._pending
        pending.append(value)
        if len(pending) >= _MOST_PENDING:
            self._take_in_pending()

    def value(self) -> Distribution:
        self._take_in_pending()
        with self._lock:
            return Distribution(tuple(self._counts), self._sum)

    def _take_in(self, changes: Sequence[float]) -> None:
        for value in changes:
            self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += sum(changes)
