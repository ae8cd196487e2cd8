"""The size from which on larger batches bring no more rows a second."""

from __future__ import annotations

from collections.abc import Sequence

from serving.batching.run_times import RunTimes

_GOOD_ENOUGH_TO_STAY = 0.95
_GOOD_ENOUGH_TO_GO_BACK_TO = 0.98
_BATCHES_BETWEEN_TRIALS = 64


class AdaptiveSize:
    """Finds it by trying neighbours: begins with one row, and goes on while the rate grows.

    Now and then the next size below or above the one found is tried anew, in turn, for models and
    machines change. ``limit`` is the most rows that the next batch should have. Not thread-safe.
    """

    def __init__(self, candidates: Sequence[int], run_times: RunTimes) -> None:
        """``candidates``: the sizes to choose from, ascending."""
        self._candidates = candidates
        self._run_times = run_times
        self._until_trial = _BATCHES_BETWEEN_TRIALS
        self._try_above = False
        self._found = 0  # an index
        self.limit = candidates[0]

    def choose(self) -> None:
        """Set the limit of the next batch, by the run times known now."""
        candidates = enumerate(self._candidates)
        known = [index for index, size in candidates if self._run_times.knows(size)]
        if not known:
            return
        rates = {index: self._rate(self._candidates[index]) for index in known}
        best = max(rates.values())
        smallest = next(i for i in known if rates[i] >= best * self._least_share(i))
        self._found = smallest
        self.limit = self._candidates[self._with_trials(known)]

    def _least_share(self, index: int) -> float:
        """Of the best rate, for a size to be chosen: more for one that is not the size in force."""
        return _GOOD_ENOUGH_TO_STAY if index >= self._found else _GOOD_ENOUGH_TO_GO_BACK_TO

    def _with_trials(self, known: Sequence[int]) -> int:
        """The index to use now: what was found, or a neighbour that should be known better."""
        found = self._found
        last = len(self._candidates) - 1
        if found == known[-1] and found < last:
            return found + 1
        self._until_trial -= 1
        if self._until_trial:
            return found
        self._until_trial = _BATCHES_BETWEEN_TRIALS
        self._try_above = not self._try_above
        return min(found + 1, last) if self._try_above else max(found - 1, 0)

    def _rate(self, size: int) -> float:
        return size / max(self._run_times.expected(size), 1e-9)
