"""Rows a second that batches bring, by their size and by how many of them run at once."""

from __future__ import annotations

import math
from typing import NamedTuple

_LEAST_WEIGHT = 1 / 32
_MOST_GROWTH_AT_ONCE = 4.0
_LEAST_SECONDS = 1e-9
_COUNT_TO_KNOW = 4


class Cell(NamedTuple):
    """What counts as one: powers of two of the batches at once and of the rows of each."""

    at_once: int
    rows: int


def cell_of(at_once: float, rows: float) -> Cell:
    """The nearest power of two batches; that of the rows is the first that is not smaller."""
    return Cell(round(math.log2(max(1.0, at_once))), max(0, math.ceil(rows) - 1).bit_length())


class BatchRates:
    """Means of the rows a second that a batch brings, beside so many. Not thread-safe.

    The latest 32 of a cell weigh alike, about; a first one that was slow is forgotten with the
    second, since the first run of a shape often is.
    """

    def __init__(self) -> None:
        self._means: dict[Cell, _Mean] = {}

    def learn(self, cell: Cell, rows: int, seconds: float) -> None:
        """Take in one batch."""
        mean = self._means.get(cell)
        if mean is None:
            mean = _Mean()
            self._means = {**self._means, cell: mean}  # others may be reading the former one
        mean.learn(rows, max(seconds, _LEAST_SECONDS))

    def count(self, cell: Cell) -> int:
        """How many batches counted in it."""
        mean = self._means.get(cell)
        return mean.count if mean is not None else 0

    def best(self) -> float:
        """The most rows a second of all batches at once, of cells with some; 0 without.

        Unlike the others, from any thread: what is just being learned may count half.
        """
        known = (cell for cell, mean in self._means.items() if mean.count >= _COUNT_TO_KNOW)
        return max(((self.rate(cell) or 0.0) * 2**cell.at_once for cell in known), default=0.0)

    def rate(self, cell: Cell) -> float | None:
        """Rows a second of one batch of the cell; None while nothing is known."""
        mean = self._means.get(cell)
        return mean.rows / mean.seconds if mean is not None else None


class _Mean:
    """Weighted means, of which the ratio is asked for."""

    __slots__ = ("count", "rows", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.rows = 0.0
        self.seconds = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        self.count += 1
        weight = max(_LEAST_WEIGHT, 1 / self.count)
        if self.count == 2 and rows * self.seconds > self.rows * seconds:
            weight = 1.0
        elif self.count > 2:
            expected = self.seconds * rows / self.rows
            seconds = min(seconds, expected * _MOST_GROWTH_AT_ONCE)
        self.rows += weight * (rows - self.rows)
        self.seconds += weight * (seconds - self.seconds)
