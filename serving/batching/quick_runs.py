"""Runs that are over sooner than they could be handed to a batch thread."""

from __future__ import annotations

from collections.abc import Callable

from serving.batching.batching_options import BatchingOptions
from serving.batching.batching_task import BatchingTask
from serving.batching.run_times import RunTimes
from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.core.servable import Outputs, RunCallback

RunAlone = Callable[[BatchingTask, RunCallback], None]
"""Runs a task as a batch of its own, on the calling thread; the callback gets the result."""

_SHARE_OF_A_BATCH = 0.6
_QUICK_SECONDS = 0.001
"""As for what is not batched, see :class:`~serving.core.pace.Pace`."""

_MOST_MEAN_SECONDS = 0.002
_WEIGHT_IN_THE_MEAN = 1 / 64
"""A busy machine interrupts single runs, for much longer than they take, which says nothing; but
all that take long together are not to hold up the caller for more than some 120 ms."""

_WORTH_A_TRY_SECONDS = 0.002
"""For the shortest batch, timed with its answers; the thread that tries may carry every call."""

_FIRST_TASKS_BETWEEN_TRIES = 16
_MOST_TASKS_BETWEEN_TRIES = 4096
_QUICK_FOR_LONG = 1024
_FIRST_TASKS_BETWEEN_BATCHES = 1024
_MOST_TASKS_BETWEEN_BATCHES = 8192
_TASKS_FOR_BATCHES = 64
"""As many as make batches worth their while: what is run alone never shows what these would do."""

_TASKS_OF_A_TRY = 8
"""The first run on another thread, beside batches that are under way, says little of the next."""

_RUNS_OF_A_VERDICT = 32
"""To time what is quick anyway and to decide again would take as long as some models do."""


class QuickRuns:
    """Says which tasks of an adaptive queue are better run at once, and runs them.

    So are those that take much less time alone than a batch of as many rows, which is the same run
    and what batching adds to it, and no longer for a row than all batches together. Now and then a
    few tasks are run where they come, unless batches of their size always take long; the times of
    those that succeed decide over those that follow. Tries become rarer. So do those the other way
    round, of batches where runs are quick. Runs that take long after all, in the mean, send those
    after them into batches until the next try.
    Thread-safe as far as RunTimes is: a task that is counted wrong does not matter.
    """

    def __init__(
        self,
        run: RunAlone,
        options: BatchingOptions,
        batches: RunTimes,
        best_rate: Callable[[], float],
        clock: Clock,
    ) -> None:
        """``batches``: how long the queue's batches take, with their answers. ``best_rate``: the
        most rows a second that all of them together have brought; 0 where it is not known.
        """
        self._run = run
        self._most_rows = options.queue.execution_limit
        self._allowed = frozenset(options.allowed_batch_sizes)
        self._batches = batches
        self._best_rate = best_rate
        self._clock = clock
        self._alone = RunTimes()
        self._until_try = self._between_tries = _FIRST_TASKS_BETWEEN_TRIES
        self._quick_in_a_row = 0
        self._mean_seconds = 0.0
        self._known_quick: set[int] = set()  # rows, until something is learned
        self._until_learning = 0
        self._until_batches = self._between_batches = _FIRST_TASKS_BETWEEN_BATCHES

    def takes(self, rows: int) -> bool:
        """Whether a task of so many rows is to be run by :meth:`run`."""
        if rows in self._known_quick and self._until_batches > 0:  # as mostly
            self._until_batches -= 1
            return True
        if rows > self._most_rows or (self._allowed and rows not in self._allowed):
            return False
        if self._are_quick(rows):
            return not self._are_batches_to_show()
        self._until_try -= 1
        if self._until_try >= 0:
            return False
        if self._until_try <= -_TASKS_OF_A_TRY:
            self._try_more_rarely()
        return self._batches.shortest(rows) <= _WORTH_A_TRY_SECONDS

    def run(self, task: BatchingTask) -> None:
        """Run and answer it here, and learn how long it took without the answer."""
        started = self._clock.monotonic()

        def done(result: Outputs | ServingError) -> None:
            seconds = self._clock.monotonic() - started
            self._mean_seconds += _WEIGHT_IN_THE_MEAN * (seconds - self._mean_seconds)
            if self._mean_seconds > _MOST_MEAN_SECONDS:
                self._doubt()
            elif not isinstance(result, ServingError):  # errors are quick, whatever runs are
                self._learn(task.rows, seconds)
            task.answer(result)

        self._run(task, done)

    def _learn(self, rows: int, seconds: float) -> None:
        self._quick_in_a_row += 1
        self._until_learning -= 1
        if self._until_learning < 0 or not self._are_quick(rows):
            self._until_learning = _RUNS_OF_A_VERDICT - 1
            self._alone.learn(rows, seconds)
            self._known_quick = set()

    def _are_quick(self, rows: int) -> bool:
        """Whether runs of just this size are known to be, as of lately."""
        if rows in self._known_quick:
            return True
        if self._decide(rows):
            self._known_quick.add(rows)
            return True
        return False

    def _decide(self, rows: int) -> bool:
        if not self._alone.knows(rows):
            return False
        alone = self._alone.expected(rows)
        most = min(_QUICK_SECONDS, _SHARE_OF_A_BATCH * self._batches.expected(rows))
        return 0 < alone <= most and alone * self._best_rate() <= max(1, rows)

    def _are_batches_to_show(self) -> bool:
        self._until_batches -= 1
        if self._until_batches < -_TASKS_FOR_BATCHES:
            self._between_batches = min(2 * self._between_batches, _MOST_TASKS_BETWEEN_BATCHES)
            self._until_batches = self._between_batches
            self._known_quick = set()
        return self._until_batches < 0

    def _doubt(self) -> None:
        """Forget what was known, until the next try; that is soon where this is rare."""
        self._alone = RunTimes()
        self._known_quick = set()
        self._mean_seconds = 0.0
        if self._quick_in_a_row >= max(self._between_tries, _QUICK_FOR_LONG):
            self._until_try = self._between_tries = _FIRST_TASKS_BETWEEN_TRIES
        else:
            self._try_more_rarely()
        self._quick_in_a_row = 0

    def _try_more_rarely(self) -> None:
        self._between_tries = min(2 * self._between_tries, _MOST_TASKS_BETWEEN_TRIES)
        self._until_try = self._between_tries
