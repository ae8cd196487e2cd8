"""How long batches take, learned from those that were run."""

from __future__ import annotations

import math
from itertools import pairwise

_WEIGHT_OF_A_SHORTER = 0.5
_WEIGHT_OF_A_LONGER = 0.125
_MOST_GROWTH_AT_ONCE = 4.0
_GROWTH_OF_THE_SHORTEST = 1.01  # with every batch, since models and machines change
_SHARE_TO_SPARE = 0.1
_SECONDS_TO_SPARE = 0.002
"""For a thread to wake and take the batch, on a busy machine too."""


class RunTimes:
    """Seconds by rows of a batch. Thread-safe as far as it is used: a lost time does not matter.

    Sizes are put together by powers of two, each with the weighted mean of its latest; what lies
    between known sizes is interpolated. What delays a batch is mostly not the batch (the first run
    of a shape, another process), so shorter times weigh more than longer ones.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, _Mean] = {}

    def learn(self, size: int, seconds: float) -> None:
        """Take in the time that one batch of ``size`` rows took."""
        if size < 1:
            return
        known = self._known.get(size_class(size))
        if known is None:
            self._known = dict(
                sorted({**self._known, size_class(size): _Mean(size, seconds)}.items())
            )
        else:
            known.learn(size, seconds)

    def knows(self, size: int) -> bool:
        """Whether a batch of about this size has been run."""
        return size_class(size) in self._known

    def shortest(self, size: int) -> float:
        """Seconds that the quickest batch took lately of those with at least about so many rows;
        inf where none was run.
        """
        least = size_class(size)
        shortest = (each.shortest for power, each in self._known.items() if power >= least)
        return min(shortest, default=math.inf)

    def expected(self, size: int) -> float:
        """Seconds that ``size`` rows will take; 0 while nothing is known.

        Fewer rows than were ever run are taken to need as long as those; more, proportionally.
        """
        means = list(self._known.values())
        if not means:
            return 0.0
        if size <= means[0].size:
            return means[0].seconds
        for low, high in pairwise(means):
            if size <= high.size:
                share = (size - low.size) / (high.size - low.size)
                return low.seconds + share * (high.seconds - low.seconds)
        return means[-1].seconds * size / means[-1].size

    def known(self, size: int) -> float:
        """As :meth:`expected`, but no more than the largest that was ever run took.

        For what is refused or left out for its time: a guess that keeps batches from running is
        never put right by them.
        """
        largest = max((mean.size for mean in list(self._known.values())), default=0)
        return self.expected(min(size, math.floor(largest)))

    def latest_start(self, deadline: float, size: int) -> float:
        """When a batch must be ready at the latest to be done by then, with something to spare."""
        return deadline - self.expected(size) * (1 + _SHARE_TO_SPARE) - _SECONDS_TO_SPARE


class _Mean:
    """The weighted mean of sizes that count as one, and of their times; the shortest of these."""

    __slots__ = ("_learned", "seconds", "shortest", "size")

    def __init__(self, size: int, seconds: float) -> None:
        self.size: float = size
        self.seconds = self.shortest = seconds
        self._learned = 1

    def learn(self, size: int, seconds: float) -> None:
        self.shortest = min(seconds, self.shortest * _GROWTH_OF_THE_SHORTEST)
        if self._learned == 1 and seconds < self.seconds:
            weight = 1.0  # the first run of a size may take many times what the others take
        elif seconds < self.seconds:
            weight = _WEIGHT_OF_A_SHORTER
        else:
            weight = _WEIGHT_OF_A_LONGER
            seconds = min(seconds, self.seconds * _MOST_GROWTH_AT_ONCE)
        self.size += weight * (size - self.size)
        self.seconds += weight * (seconds - self.seconds)
        self._learned += 1


def size_class(size: int) -> int:
    """What sizes of about the same run time have in common.

    The exponent of the power of two that a batch counts as: the first that is not smaller.
    """
    return max(0, size - 1).bit_length()
