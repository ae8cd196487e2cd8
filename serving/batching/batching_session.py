"""A servable that runs many requests at once, by way of another one."""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from serving.batching.adaptive_queue import AdaptiveQueue
from serving.batching.batch import merged, rounded_size, row_count, split_outputs
from serving.batching.batch_queue import BatchQueue, TaskQueue
from serving.batching.batching_options import BatchingOptions
from serving.batching.batching_task import (
    GIVEN_UP,
    BatchingTask,
    answer_expired,
    answer_given_up,
    answer_late,
    split_task,
)
from serving.batching.lane import Place, Share
from serving.batching.run_times import RunTimes
from serving.batching.shared_batch_scheduler import SharedBatchScheduler, SharedQueue
from serving.core.clock import Clock
from serving.core.errors import (
    Cancelled,
    IncompatibleShapes,
    IncompatibleTypes,
    Internal,
    InvalidArgument,
    OutOfRange,
    ServingError,
    Unavailable,
)
from serving.core.priority import Priority
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

_Tensors = tuple[tuple[str, ...], tuple[str, ...]]
_MOST_QUEUES_OF_REQUESTS = 256


class _Key(NamedTuple):
    """What the requests of one queue have in common."""

    tensors: _Tensors
    priority: Priority


class BatchingServable:
    """Wraps a servable: runs with the same inputs and outputs are joined into batches.

    Each combination of tensors has a queue, of each priority where those are honoured: the
    signatures' from the start, others from their first run on. Clients choose outputs freely, so
    there is a bound to the others; beyond it a combination runs by way of ``unbatched``. ``done``
    is called on a batch thread, or where its call is given up. Tasks whose deadline passed in the
    queue are answered and left out. Every error of a batch, from merging to running, is each of
    its tasks' error, unless the options have it retried in halves.
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
        self._share = Share(options.max_batches_in_progress or None)
        self._run_times: defaultdict[_Tensors, RunTimes] = defaultdict(RunTimes)
        self._former: list[SharedQueue[BatchingTask]] = []
        self._queues = self._queues_of_signatures()
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
        without a common number of rows or with too many, UNAVAILABLE for a full queue. Besides,
        RESOURCE_EXHAUSTED for a wait that the options do not admit, CANCELLED for a call given up.
        """
        try:
            task = BatchingTask(feeds, fetches, row_count(feeds), options, done)
            is_queued = self._enqueue(task)
        except ServingError as error:
            done(error)
        else:
            if not is_queued:
                self._unbatched.run(feeds, fetches, options, done)

    def reconfigure(self, options: BatchingOptions) -> None:
        """Batch by these options from now on; what is queued is processed by those before."""
        with self._lock:
            if options == self._options:
                return
            self._options = options
            self._share.most = options.max_batches_in_progress or None
            former, self._queues = self._queues, self._queues_of_signatures()
            self._former = [queue for queue in self._former if not queue.is_drained()]
            self._former.extend(former.values())
        for queue in former.values():
            queue.end()

    def close(self) -> None:
        """Answer what is enqueued, then close the wrapped servable."""
        for queue in (*self._former, *self._queues.values()):
            queue.close()
        self._servable.close()

    def _enqueue(self, task: BatchingTask) -> bool:
        """False where there is no queue for such a task and there can be no more."""
        honored = self._options.honor_priorities
        priority = task.options.priority if honored else Priority.NORMAL
        key = _Key(_tensors(task.feeds, task.fetches), priority)
        while True:
            queue = self._queues.get(key) or self._new_queue(key)
            if queue is None:
                return False
            try:
                ticket = queue.enqueue(task, task.rows, task.deadline)
            except Unavailable:
                if self._queues.get(key) is queue:
                    raise
                continue  # the options have just changed, and with them the queue
            if task.options.cancellation is not None:
                # The ticket, not the task, which refers to the cancellation: that were a circle.
                task.options.cancellation.when_cancelled(partial(_give_up, queue, ticket))
            return True

    def _queues_of_signatures(self) -> dict[_Key, SharedQueue[BatchingTask]]:
        keys = {
            _Key(_tensors(_names(signature.inputs), _names(signature.outputs)), Priority.NORMAL)
            for signature in self._servable.signatures.values()
        }
        return {key: self._made_queue(key) for key in keys}

    def _new_queue(self, key: _Key) -> SharedQueue[BatchingTask] | None:
        with self._lock:
            if key not in self._queues:
                if len(self._queues) >= self._most_queues:
                    return None
                self._queues[key] = self._made_queue(key)
            return self._queues[key]

    def _made_queue(self, key: _Key) -> SharedQueue[BatchingTask]:
        options = self._options
        run_times = self._run_times[key.tensors]
        queue: TaskQueue[BatchingTask]
        if options.adaptive:
            queue = AdaptiveQueue(options, run_times)
        else:
            queue = BatchQueue(options.queue, split_task, run_times)
        place = Place(
            self._share,
            admission=options.admission,
            weight=options.weight,
            priority=key.priority,
            max_wait_seconds=options.max_priority_wait_micros / 1e6,
        )
        process = self._process_in_time if options.queue.deadline_aware else self._process
        return self._scheduler.add_queue(queue, partial(process, key), place)

    def _process_in_time(self, key: _Key, tasks: Sequence[BatchingTask]) -> None:
        """Answer what cannot be done before its deadline, by the run times, and run the rest."""
        run_times = self._run_times[key.tensors]
        size = sum(task.rows for task in tasks)
        in_time = answer_late(tasks, self._clock.monotonic() + run_times.expected(size))
        if in_time:
            self._process(key, in_time)
        else:
            run_times.doubt()

    def _process(self, key: _Key, tasks: Sequence[BatchingTask]) -> None:
        started = self._clock.monotonic()
        tasks = answer_given_up(answer_expired(tasks, started))
        if not tasks:
            return
        fetches = key.tensors[1]
        result = self._shares_or_error(fetches, tasks)
        if not isinstance(result, ServingError):
            for task, share in zip(tasks, result, strict=True):
                task.answer(_in_order_of(task.fetches, fetches, share))
            rows = sum(task.rows for task in tasks)
            self._run_times[key.tensors].learn(rows, self._clock.monotonic() - started)
        elif len(tasks) > 1 and self._is_retried(result):
            middle = len(tasks) // 2
            self._process(key, tasks[:middle])
            self._process(key, tasks[middle:])
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
        options = replace(tasks[0].options, deadline=_latest_deadline(tasks), cancellation=None)
        outputs = run_and_wait(self._servable, feeds, fetches, options)
        if len(outputs) != len(fetches):
            raise Internal("Wrong number of batched output tensors")
        return split_outputs(outputs, sizes, size)

    def __repr__(self) -> str:
        return f"<BatchingServable of {self._servable!r}>"


def _names(tensors: Mapping[str, TensorInfo]) -> list[str]:
    return [info.name for info in tensors.values()]


def _tensors(feeds: Iterable[str], fetches: Iterable[str]) -> _Tensors:
    return tuple(sorted(set(feeds))), tuple(sorted(set(fetches)))


def _give_up(queue: SharedQueue[BatchingTask], ticket: int) -> None:
    """Answer what nobody waits for any more, as far as no thread has taken it yet."""
    for task in queue.withdraw(ticket):
        task.answer(Cancelled(GIVEN_UP))


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
