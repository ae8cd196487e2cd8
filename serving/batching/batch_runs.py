"""What is done with one batch: run it, and give each of its requests its share of the outputs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from serving.batching.batch import check_outputs, merged, rounded_size, split_outputs
from serving.batching.batch_listener import BatchFormed, BatchListener, unheard
from serving.batching.batching_options import BatchingOptions
from serving.batching.batching_task import (
    BatchingTask,
    answer_expired,
    answer_given_up,
)
from serving.batching.late_tasks import LateTasks
from serving.batching.run_times import RunTimes
from serving.core.clock import Clock
from serving.core.errors import (
    IncompatibleShapes,
    IncompatibleTypes,
    Internal,
    InvalidArgument,
    OutOfRange,
    ServingError,
)
from serving.core.observed_call import calls_in_log
from serving.core.servable import (
    Outputs,
    RunCallback,
    Servable,
    input_buffers_of,
    run_and_wait,
)

log = logging.getLogger(__name__)


class BatchRuns:
    """The batches of one queue, whose tasks have the same inputs and want ``fetches``.

    How long they take goes into ``run_times``. Thread-safe.
    """

    def __init__(
        self,
        servable: Servable,
        fetches: Sequence[str],
        options: BatchingOptions,
        run_times: RunTimes,
        clock: Clock,
        *,
        on_batch: BatchListener = unheard,
    ) -> None:
        self._servable = servable
        self._input_buffer = input_buffers_of(servable)
        self._fetches = fetches
        self._options = options
        self._run_times = run_times
        self._clock = clock
        self._on_batch = on_batch
        self._in_time = LateTasks(run_times).answered if options.queue.deadline_aware else _all

    def process(self, tasks: Sequence[BatchingTask]) -> bool:
        """Answer every task; blocks while the servable runs. Never raises.

        Returns whether all of them were run at once, without an error.
        """
        return self._process(tasks)

    def run_alone(self, task: BatchingTask, done: RunCallback) -> None:
        """Run a task that has the rows of a whole batch on the calling thread.

        ``done`` gets what the task is to be answered with.
        """

        def ended(result: Outputs | ServingError) -> None:
            if not isinstance(result, ServingError):
                try:
                    self._check_shares(result, task.rows)
                    result = _in_order_of(task.fetches, self._fetches, result)
                except ServingError as error:
                    result = error.untraced()
                except Exception:  # outputs that are no arrays, which no call is to wait for
                    calls = [task.options.call]
                    log.exception("a run of %r failed", self._servable, extra=calls_in_log(calls))
                    result = Internal("the run failed unexpectedly")
            done(result)

        if task.options.call is not None:
            task.options.call.run_begins(requests=1, rows=task.rows)
        self._servable.run(task.feeds, self._fetches, task.options, ended)

    def _process(self, tasks: Sequence[BatchingTask]) -> bool:
        started = self._clock.monotonic()
        given = len(tasks)
        tasks = answer_given_up(answer_expired(self._in_time(tasks, started), started))
        if not tasks:
            return False
        _tell_calls(tasks)
        result = self._shares_or_error(tasks, started)
        if not isinstance(result, ServingError):
            for task, share in zip(tasks, result, strict=True):
                task.answer(_in_order_of(task.fetches, self._fetches, share))
            rows = sum(task.rows for task in tasks)
            self._run_times.learn(rows, self._clock.monotonic() - started)
            return len(tasks) == given
        if len(tasks) > 1 and self._is_retried(result):
            middle = len(tasks) // 2
            self._process(tasks[:middle])
            self._process(tasks[middle:])
        else:
            for task in tasks:
                task.answer(result)
        return False

    def _shares_or_error(
        self, tasks: Sequence[BatchingTask], started: float
    ) -> list[list[np.ndarray]] | ServingError:
        try:
            return self._run(tasks, started)
        except ServingError as error:
            return error.untraced()
        except Exception:  # a defect of the servable, which must not leave anyone without an answer
            calls = [task.options.call for task in tasks]
            log.exception("a batch of %r failed", self._servable, extra=calls_in_log(calls))
            return Internal("the run failed unexpectedly")

    def _is_retried(self, error: ServingError) -> bool:
        """Whether some requests may succeed without others.

        INTERNAL too: to many engines what a row makes fail is an error like any other.
        """
        return self._options.retry_failed_batch_in_halves and isinstance(
            error,
            InvalidArgument | OutOfRange | IncompatibleShapes | IncompatibleTypes | Internal,
        )

    def _run(self, tasks: Sequence[BatchingTask], started: float) -> list[list[np.ndarray]]:
        """The rows of each task of every output. The batch runs as its first task asks for."""
        sizes = [task.rows for task in tasks]
        size = rounded_size(sum(sizes), self._options.allowed_batch_sizes)
        feeds = merged(
            [task.feeds for task in tasks],
            size,
            pad=self._options.pad_variable_length_inputs,
            empty=self._input_buffer,
        )
        self._tell(tasks, size, started)
        deadline = _latest_deadline(tasks)
        options = replace(tasks[0].options, deadline=deadline, cancellation=None, call=None)
        outputs = run_and_wait(self._servable, feeds, self._fetches, options)
        return self._shares(outputs, sizes, size)

    def _shares(self, outputs: Outputs, sizes: Sequence[int], size: int) -> list[list[np.ndarray]]:
        self._check_shares(outputs, size)
        return split_outputs(outputs, sizes)

    def _check_shares(self, outputs: Outputs, size: int) -> None:
        if len(outputs) != len(self._fetches):
            raise Internal("Wrong number of batched output tensors")
        check_outputs(outputs, size)

    def _tell(self, tasks: Sequence[BatchingTask], size: int, started: float) -> None:
        if self._on_batch is not unheard:
            waits = [started - task.since for task in tasks]
            rows = [task.rows for task in tasks]
            most_rows = self._options.queue.execution_limit
            self._on_batch(BatchFormed(waits, rows, len(tasks[0].feeds), size, most_rows))


def _all(tasks: Sequence[BatchingTask], _now: float) -> Sequence[BatchingTask]:
    return tasks


def _tell_calls(tasks: Sequence[BatchingTask]) -> None:
    """Where calls are observed, theirs learn that they are run together."""
    rows: int | None = None
    for task in tasks:
        call = task.options.call
        if call is not None:
            rows = rows or sum(each.rows for each in tasks)
            call.run_begins(len(tasks), rows)


def _latest_deadline(tasks: Sequence[BatchingTask]) -> float | None:
    """The latest of the tasks' deadlines, None where one has none."""
    latest = -math.inf
    for task in tasks:
        if task.options.deadline is None:
            return None
        latest = max(latest, task.options.deadline)
    return latest


def _in_order_of(
    wanted: Sequence[str], fetched: Sequence[str], outputs: Sequence[np.ndarray]
) -> Outputs:
    if len(wanted) == 1:  # and so is what was fetched
        return outputs
    by_name = dict(zip(fetched, outputs, strict=True))
    return [by_name[name] for name in wanted]
