"""Which tasks of a batch are too late to be run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from serving.batching.batching_task import BatchingTask, answer_late
from serving.batching.run_times import RunTimes, size_class

_BATCHES_UNTIL_ONE_RUNS = 8


class LateTasks:
    """Answers them in place of running them, by the times of batches that were run.

    Times that have kept many batches of about one size in a row from running as such may be wrong:
    then one runs with all that are not past their deadlines, and what it takes is learned. Runs of
    other sizes, which say nothing of this one, do not count. Thread-safe as far as it is used: a
    batch that is counted wrong does not matter.
    """

    def __init__(self, run_times: RunTimes) -> None:
        self._run_times = run_times
        self._in_a_row: defaultdict[int, int] = defaultdict(int)  # by size class

    def answered(self, tasks: Sequence[BatchingTask], now: float) -> Sequence[BatchingTask]:
        """Those that can be done in time; DEADLINE_EXCEEDED is the answer to the others."""
        size = sum(task.rows for task in tasks)
        done_at = now + self._run_times.known(size)
        late = [task for task in tasks if task.deadline < done_at]
        left = size - sum(task.rows for task in late)
        if len(late) < len(tasks) and size_class(left) == size_class(size):
            self._in_a_row.pop(size_class(size), None)
        elif any(task.deadline > now for task in late):
            done_at = self._done_at_or_now(size_class(size), done_at, now)
        return answer_late(tasks, done_at) if late else tasks

    def _done_at_or_now(self, size: int, done_at: float, now: float) -> float:
        self._in_a_row[size] += 1
        if self._in_a_row[size] < _BATCHES_UNTIL_ONE_RUNS:
            return done_at
        del self._in_a_row[size]
        return now
