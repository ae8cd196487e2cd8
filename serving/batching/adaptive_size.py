"""The size from which on larger batches bring no more rows a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.batching.run_times import RunTimes

_GOOD_ENOUGH_TO_STAY = 0.95
_GOOD_ENOUGH_TO_GO_BACK_TO = 0.98
_WEIGHT_OF_THE_LATEST = 0.125
"""As that of a longer time, which may be due to the others in progress."""

_WORTH_GIVING_UP = 1.25
"""How much more batches are to bring, which are often smaller than they may be."""

_BATCHES_BETWEEN_TRIALS = 64


class AdaptiveSize:
    """Finds it by trying neighbours: begins with one row, and goes on while the rate grows.

    The rate is that of all batches in progress: single rows run side by side, as many as there are
    threads, and larger batches only as many as there are instances, so they have to bring more than
    that gives up. Now and then another size than the one found is tried anew: the next above, the
    next below, a single row; models and machines change. ``limit`` is the most rows that the next
    batch should have. Not thread-safe.
    """

    def __init__(self, candidates: Sequence[int], run_times: RunTimes) -> None:
        """``candidates``: the sizes to choose from, ascending."""
        self._candidates = candidates
        self._run_times = run_times
        self._until_trial = _BATCHES_BETWEEN_TRIALS
        self._trials = 0
        self._awaits_trial = False
        self._found = 0  # an index
        self._in_progress: dict[bool, float] = {}  # of single rows, and of all others: the mean
        self.limit = candidates[0]

    def ran(self, size: int, in_progress: int) -> None:
        """Hear how many batches were in progress while one of this size was."""
        single = size <= 1
        mean = self._in_progress.setdefault(single, in_progress)
        self._in_progress[single] = mean + _WEIGHT_OF_THE_LATEST * (in_progress - mean)

    def taken(self) -> None:
        """Hear that a batch has been taken by the limit."""
        self._awaits_trial = False

    def choose(self) -> None:
        """Set the limit of the next batch, by the run times known now."""
        if self._awaits_trial:
            return  # what was in progress when it was decided on has to end first
        candidates = enumerate(self._candidates)
        rates = {i: self._rate(size) for i, size in candidates if self._run_times.knows(size)}
        if not rates:
            return
        self._found = self._best(rates)
        self.limit = self._candidates[self._with_trials(rates)]

    def _best(self, rates: Mapping[int, float]) -> int:
        """The index of the smallest size with nearly the best rate."""
        best = max(rates.values())
        return next(i for i in rates if rates[i] >= best * self._least_share(i))

    def _least_share(self, index: int) -> float:
        """Of the best rate, for a size to be chosen: more for one that is not the size in force."""
        return _GOOD_ENOUGH_TO_STAY if index >= self._found else _GOOD_ENOUGH_TO_GO_BACK_TO

    def _with_trials(self, rates: Mapping[int, float]) -> int:
        """The index to use now: what was found, or one that should be known better."""
        found = self._found
        last = len(self._candidates) - 1
        if found == max(rates) and found < last:
            return found + 1
        self._until_trial -= 1
        if self._until_trial:
            return found
        self._awaits_trial = True
        if not found and self._side_by_side > 1:
            self._until_trial = round(_BATCHES_BETWEEN_TRIALS * self._side_by_side)
            return min(self._best_of_larger(rates), last)
        self._until_trial = _BATCHES_BETWEEN_TRIALS
        self._trials += 1
        if self._trials % 2:
            return min(found + 1, last)
        return max(found - 1, 0) if self._trials % 4 else 0

    def _best_of_larger(self, rates: Mapping[int, float]) -> int:
        """Or the next above it, while they grow: one may pay though smaller ones do not."""
        larger = {index: rate for index, rate in rates.items() if index > 0}
        best = self._best(larger) if larger else 0
        return best + 1 if best == max(rates) else best

    @property
    def _side_by_side(self) -> float:
        """How many single rows were in progress where there is one larger batch; at least 1."""
        return max(1.0, self._in_progress.get(True, 1) / self._in_progress.get(False, 1))

    def _rate(self, size: int) -> float:
        """Rows a second, as compared with one larger batch in progress."""
        rate = size / max(self._run_times.expected(size), 1e-9)
        if size > 1 or self._side_by_side == 1:
            return rate
        return rate * self._side_by_side * _WORTH_GIVING_UP
