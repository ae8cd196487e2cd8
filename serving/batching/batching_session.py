"""A servable that runs many requests at once, by way of another one."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from serving.batching.batch import merged, rounded_size, row_count, split_outputs
from serving.batching.batching_options import BatchingOptions
from serving.batching.batching_task import BatchingTask, answer_expired, split_task
from serving.batching.shared_batch_scheduler import SharedBatchScheduler, SharedQueue
from serving.core.clock import Clock
from serving.core.errors import (
    IncompatibleShapes,
    IncompatibleTypes,
    Internal,
    InvalidArgument,
    OutOfRange,
    ServingError,
)
from serving.core.servable import (
    Outputs,
    RunCallback,
    RunOptions,
    Servable,
    Signature,
    TensorInfo,
    run_and_wait,
)

log = logging.getLogger(__name__)

_Key = tuple[tuple[str, ...], tuple[str, ...]]
_MOST_QUEUES_OF_REQUESTS = 256


class BatchingServable:
    """Wraps a servable: runs with the same inputs and outputs are joined into batches.

    Each combination of tensors has a queue: those of the signatures from the start, others from
    their first run on. Clients choose outputs freely, so there is a bound to the others; beyond
    it a combination runs by way of ``unbatched``. ``done`` is called on a batch thread. Tasks
    whose deadline passed in the queue are answered and left out. Every error of a batch, from
    merging to running, is each of its tasks' error, unless the options have it retried in halves.
    """

    def __init__(
        self,
        servable: Servable,
        unbatched: Servable,
        scheduler: SharedBatchScheduler,
        options: BatchingOptions,
        clock: Clock,
    ) -> None:
        self._servable = servable
        self._unbatched = unbatched
        self._scheduler = scheduler
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()
        self._queues: dict[_Key, SharedQueue[BatchingTask]] = {}
        for signature in servable.signatures.values():
            self._queue(_key(set(_names(signature.inputs)), _names(signature.outputs)))
        self._most_queues = len(self._queues) + _MOST_QUEUES_OF_REQUESTS

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Put the request into its queue; nothing waits here.

        Errors of TensorFlow Serving's batching, with its texts: INVALID_ARGUMENT for inputs
        without a common number of rows or with too many, UNAVAILABLE for a full queue.
        """
        try:
            rows = row_count(feeds)
            key = _key(feeds, fetches)
            queue = self._queues.get(key) or self._new_queue(key)
            if queue is not None:
                queue.enqueue(BatchingTask(feeds, fetches, rows, options, done), rows)
        except ServingError as error:
            done(error)
        else:
            if queue is None:
                self._unbatched.run(feeds, fetches, options, done)

    def close(self) -> None:
        """Answer what is enqueued, then close the wrapped servable."""
        for queue in self._queues.values():
            queue.close()
        self._servable.close()

    def _new_queue(self, key: _Key) -> SharedQueue[BatchingTask] | None:
        with self._lock:
            if key in self._queues or len(self._queues) < self._most_queues:
                return self._queue(key)
        return None

    def _queue(self, key: _Key) -> SharedQueue[BatchingTask]:
        if key not in self._queues:
            self._queues[key] = self._scheduler.add_queue(
                self._options.queue, partial(self._process, key[1]), split_task
            )
        return self._queues[key]

    def _process(self, fetches: Sequence[str], tasks: Sequence[BatchingTask]) -> None:
        tasks = answer_expired(tasks, self._clock.monotonic())
        if not tasks:
            return
        result = self._shares_or_error(fetches, tasks)
        if not isinstance(result, ServingError):
            for task, share in zip(tasks, result, strict=True):
                task.answer(_in_order_of(task.fetches, fetches, share))
        elif len(tasks) > 1 and self._is_retried(result):
            middle = len(tasks) // 2
            self._process(fetches, tasks[:middle])
            self._process(fetches, tasks[middle:])
        else:
            for task in tasks:
                task.answer(result)

    def _shares_or_error(
        self, fetches: Sequence[str], tasks: Sequence[BatchingTask]
    ) -> list[list[np.ndarray]] | ServingError:
        try:
            return self._run_batch(fetches, tasks)
        except ServingError as error:
            return error
        except Exception:  # a defect of the servable, which must not leave anyone without an answer
            log.exception("a batch of %r failed", self._servable)
            return Internal("the run failed unexpectedly")

    def _is_retried(self, error: ServingError) -> bool:
        """Whether the requests are at fault for it, and some of them may succeed without others."""
        return self._options.retry_failed_batch_in_halves and isinstance(
            error, InvalidArgument | OutOfRange | IncompatibleShapes | IncompatibleTypes
        )

    def _run_batch(
        self, fetches: Sequence[str], tasks: Sequence[BatchingTask]
    ) -> list[list[np.ndarray]]:
        """The rows of each task of every output. The batch runs as its first task asks for."""
        sizes = [task.rows for task in tasks]
        size = rounded_size(sum(sizes), self._options.allowed_batch_sizes)
        feeds = merged(
            [task.feeds for task in tasks], size, pad=self._options.pad_variable_length_inputs
        )
        options = replace(tasks[0].options, deadline=_latest_deadline(tasks))
        outputs = run_and_wait(self._servable, feeds, fetches, options)
        if len(outputs) != len(fetches):
            raise Internal("Wrong number of batched output tensors")
        return split_outputs(outputs, sizes, size)

    def __repr__(self) -> str:
        return f"<BatchingServable of {self._servable!r}>"


def _names(tensors: Mapping[str, TensorInfo]) -> list[str]:
    return [info.name for info in tensors.values()]


def _key(feeds: Mapping[str, np.ndarray] | set[str], fetches: Iterable[str]) -> _Key:
    return tuple(sorted(feeds)), tuple(sorted(set(fetches)))


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
    by_name = dict(zip(fetched, outputs, strict=True))
    return [by_name[name] for name in wanted]
