"""What batching tells of its batches, for those who count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchFormed:
    """One batch that is about to run, or a part of one that failed.

    ``waits`` are the seconds that each request, or part of one, was queued, ``rows`` their rows,
    ``num_inputs`` the tensors that each has. ``size`` is the batch's, with the rows that fill it
    up, and ``most_rows`` what it could be.
    """

    waits: Sequence[float]
    rows: Sequence[int]
    num_inputs: int
    size: int
    most_rows: int


BatchListener = Callable[[BatchFormed], None]
"""Hears of every batch on the thread that runs it: it must be quick, and must not raise."""


def unheard(_batch: BatchFormed) -> None:
    """Nobody counts."""
