"""A servable that runs many requests at once, by way of another one."""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np

from serving.batching.adaptive_queue import AdaptiveQueue
from serving.batching.batch import row_count
from serving.batching.batch_listener import BatchListener, unheard
from serving.batching.batch_queue import BatchQueue, TaskQueue
from serving.batching.batch_runs import BatchRuns
from serving.batching.batching_options import BatchingOptions
from serving.batching.batching_task import GIVEN_UP, BatchingTask, answer_stopped, split_task
from serving.batching.lane import HIGHEST_PRIORITY, Place, Share
from serving.batching.quick_runs import QuickRuns
from serving.batching.run_times import RunTimes
from serving.batching.shared_batch_scheduler import SharedBatchScheduler, SharedQueue
from serving.core.cancellation import Cancellation
from serving.core.clock import Clock
from serving.core.errors import (
    Cancelled,
    ResourceExhausted,
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
    instances_of,
    max_runs_of,
    may_run_long,
)
from serving.core.servable_wrapper import ServableWrapper

log = logging.getLogger(__name__)

_Tensors = tuple[tuple[str, ...], tuple[str, ...]]
_MOST_QUEUES_OF_REQUESTS = 256


class _Key(NamedTuple):
    """What the requests of one queue have in common."""

    tensors: _Tensors
    priority: Priority


class _Queue(NamedTuple):
    """Where the requests of one key go: into batches, or past them where they are ``quick``."""

    tasks: SharedQueue[BatchingTask]
    quick: QuickRuns | None


class BatchingServable(ServableWrapper):
    """Wraps a servable: runs with the same inputs and outputs are joined into batches.

    Each combination of tensors has a queue, of each priority where those are honoured: the
    signatures' from the start, others from their first run on. Clients choose outputs freely, so
    there is a bound to the others; beyond it a combination runs by way of ``unbatched``, and so do
    inputs whose number of rows the signature fixes, unless every batch has that many. ``done``
    is called on a batch thread, where its call is given up, or by :meth:`run` itself: adaptive
    batching leaves out what is over sooner than it could be handed over. Tasks whose deadline
    passed in the queue are answered and left out. Every error of a batch, from merging to running,
    is each of its tasks' error, unless the options have it retried in halves.
    """

    def __init__(
        self,
        servable: Servable,
        unbatched: Servable,
        scheduler: SharedBatchScheduler,
        options: BatchingOptions,
        clock: Clock,
        *,
        on_batch: BatchListener = unheard,
        on_close: Callable[[BatchingServable], None] = lambda _: None,
    ) -> None:
        """``on_close`` hears of the close before anything is waited for."""
        super().__init__(servable)
        self._on_batch = on_batch
        self._on_close = on_close
        self._unbatched = unbatched
        self._scheduler = scheduler
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()
        # As in DirectServable.
        self._may_run_long = may_run_long(servable)
        self._share = Share(_most_in_progress(servable, options))
        self._run_times: defaultdict[_Tensors, RunTimes] = defaultdict(RunTimes)
        self._closed = False
        self._former: list[SharedQueue[BatchingTask]] = []
        self._of_signatures: frozenset[_Tensors] = frozenset()
        self._fixed_inputs: frozenset[str] = frozenset()
        self._others = 0  # queues of combinations that no signature has
        self._queues = self._queues_of_signatures()

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
        if self._fixed_inputs and not self._fixed_inputs.isdisjoint(feeds):
            self._unbatched.run(feeds, fetches, options, done)
            return
        try:
            is_taken = self._take(BatchingTask(feeds, fetches, row_count(feeds), options, done))
        except ServingError as error:
            done(error.untraced())
        else:
            if not is_taken:
                self._unbatched.run(feeds, fetches, options, done)

    @property
    def honors_priorities(self) -> bool:
        """Whether the priorities of requests matter."""
        return self._options.honor_priorities

    def waiting_rows(self) -> int:
        """How many rows are queued."""
        with self._lock:
            queues = self._all_queues()
        return sum(queue.waiting_rows() for queue in queues)

    def reconfigure(self, options: BatchingOptions) -> None:
        """Batch by these options from now on; what is queued is processed by those before.

        No effect once closed.
        """
        with self._lock:
            if self._closed or options == self._options:
                return
            self._options = options
            # Without the scheduler's lock: the queues' end, below, has it look again.
            self._share.most = _most_in_progress(self._servable, options)
            former, self._queues = self._queues, self._queues_of_signatures()
            known = {tensors for tensors, _ in self._queues}
            for tensors in self._run_times.keys() - known:
                del self._run_times[tensors]
            self._former = [queue for queue in self._former if not queue.is_drained()]
            self._former.extend(queue.tasks for queue in former.values())
        for queue in former.values():
            queue.tasks.end()

    def close(self) -> None:
        """Answer what is enqueued, then close the wrapped servable."""
        with self._lock:
            self._closed = True
            queues = self._all_queues()
        self._on_close(self)
        for queue in queues:
            queue.close()
        self._servable.close()

    def _all_queues(self) -> Sequence[SharedQueue[BatchingTask]]:
        return [*self._former, *(queue.tasks for queue in self._queues.values())]

    def _take(self, task: BatchingTask) -> bool:
        """False where there is no queue for such a task and there can be no more."""
        honored = self._options.honor_priorities
        priority = task.options.priority if honored else Priority.NORMAL
        key = _tensors(task.feeds, task.fetches), priority  # equal to a _Key, and made sooner
        while True:
            queue = self._queues.get(key) or self._new_queue(_Key(*key))
            if queue is None:
                return False
            if queue.quick is not None and self._may_be_quick(task, queue.quick):
                queue.quick.run(task)
                return True
            try:
                _put(task, queue.tasks, self._clock.monotonic())
            except (Unavailable, ResourceExhausted):
                if self._queues.get(key) is queue:
                    raise
                continue  # the options have just changed, and with them the queue
            return True

    def _may_be_quick(self, task: BatchingTask, quick: QuickRuns) -> bool:
        may_wait = task.options.caller_may_wait or not self._may_run_long
        return may_wait and quick.takes(task.rows)

    def _queues_of_signatures(self) -> dict[tuple[_Tensors, Priority], _Queue]:
        signatures = self._servable.signatures.values()
        called = {_tensors(_names(each.inputs), _names(each.outputs)) for each in signatures}
        self._of_signatures = frozenset(called)
        self._fixed_inputs = _fixed_inputs(signatures, self._options.allowed_batch_sizes)
        self._others = 0
        batched = [tensors for tensors in called if self._fixed_inputs.isdisjoint(tensors[0])]
        keys = [_Key(tensors, Priority.NORMAL) for tensors in batched]
        return {key: self._made_queue(key) for key in keys}

    def _new_queue(self, key: _Key) -> _Queue | None:
        with self._lock:
            if key not in self._queues:
                if key.tensors not in self._of_signatures:
                    if self._others >= _MOST_QUEUES_OF_REQUESTS:
                        return None
                    self._others += 1
                self._queues[key] = self._made_queue(key)
            return self._queues[key]

    def _made_queue(self, key: _Key) -> _Queue:
        options = self._options
        rules = _admitting(options)
        run_times = self._run_times[key.tensors]
        queue: TaskQueue[BatchingTask]
        adaptive: AdaptiveQueue[BatchingTask] | None = None
        if options.adaptive:
            at_least = _runs_at_once(self._servable)
            at_most = partial(_most_at_once, self._scheduler, self._share)
            queue = adaptive = AdaptiveQueue(rules, split_task, run_times, at_least, at_most)
        else:
            queue = BatchQueue(rules.queue, split_task, run_times)
        # Turns are TensorFlow Serving's unless priorities are honoured: nothing that others ask
        # for may keep such a version from its turn.
        honored = options.honor_priorities
        place = Place(
            self._share,
            admission=options.admission,
            weight=options.weight,
            priority=key.priority if honored else HIGHEST_PRIORITY,
            max_wait_seconds=options.max_priority_wait_micros / 1e6 if honored else math.inf,
        )
        work = BatchRuns(
            self._servable,
            key.tensors[1],
            options,
            run_times,
            self._clock,
            on_batch=self._on_batch,
        )
        quick = None
        if adaptive is not None and max_runs_of(self._servable) is None:
            quick = QuickRuns(work.run_alone, options, run_times, adaptive.best_rate, self._clock)
        tasks = self._scheduler.add_queue(queue, work.process, place, answer_stopped)
        return _Queue(tasks, quick)


def _admitting(options: BatchingOptions) -> BatchingOptions:
    """Those of a queue. Where requests that would wait for too long are refused, a batch does not
    have those it holds wait for too long for more: it cannot be told whether more will come.
    """
    admission = options.admission
    if admission is None:
        return options
    timeout = options.queue.batch_timeout_micros
    if admission.max_wait_micros is not None:
        timeout = min(timeout, admission.max_wait_micros)
    queue = replace(options.queue, batch_timeout_micros=timeout, deadline_aware=True)
    return replace(options, queue=queue)


def _fixed_inputs(signatures: Iterable[Signature], allowed: Sequence[int]) -> frozenset[str]:
    """The inputs of which only so many rows are taken, by the engine's names.

    Batches of several requests would be refused. Those of signatures that are ``encoded`` are taken
    as they are: TensorFlow Serving does not look at their shapes, nor do the engines.
    """
    inputs = chain.from_iterable(each.inputs.values() for each in signatures if not each.encoded)
    return frozenset(
        info.name
        for info in inputs
        if info.shape == ()
        or (info.shape is not None and info.shape[:1] not in ((None,), tuple(allowed)))
    )


def _most_in_progress(servable: Servable, options: BatchingOptions) -> int | None:
    """What more batches than the servable can run would do is hold threads; None: any number."""
    bounds = (options.max_batches_in_progress, max_runs_of(servable))
    return min((bound for bound in bounds if bound), default=None)


def _runs_at_once(servable: Servable) -> int:
    """How many batches at the same time are no hindrance to one another."""
    return max_runs_of(servable) or len(instances_of(servable))


def _most_at_once(scheduler: SharedBatchScheduler, share: Share) -> int:
    """How many batches at the same time there can be to any use."""
    bounds = (scheduler.num_batch_threads, share.most)
    return min(bound for bound in bounds if bound)


def _names(tensors: Mapping[str, TensorInfo]) -> list[str]:
    return [info.name for info in tensors.values()]


def _tensors(feeds: Collection[str], fetches: Collection[str]) -> _Tensors:
    if len(feeds) == 1 and len(fetches) == 1:
        return tuple(feeds), tuple(fetches)
    return tuple(sorted(set(feeds))), tuple(sorted(set(fetches)))


def _put(task: BatchingTask, queue: SharedQueue[BatchingTask], now: float) -> None:
    """Enqueue the task, until it is answered or its call given up."""
    feeds, fetches, rows, options, done, _ = task
    cancellation = options.cancellation
    if cancellation is None:
        task = BatchingTask(feeds, fetches, rows, options, done, now)
        queue.enqueue(task, rows, task.deadline)
        return
    watch = _Watch(queue)
    answered = partial(watch.answered, cancellation, done)
    task = BatchingTask(feeds, fetches, rows, options, answered, now)  # 1 µs less than _replace
    watch.ticket = queue.enqueue(task, rows, task.deadline)
    cancellation.when_cancelled(watch)
    if watch.is_answered:  # before it was to be told
        cancellation.forget(watch)


class _Watch:
    """Gives up an enqueued task when its call is given up, and lets go of the call otherwise.

    The cancellation refers to it, so it refers to no task: each refers to its cancellation.
    """

    __slots__ = ("_queue", "is_answered", "ticket")

    def __init__(self, queue: SharedQueue[BatchingTask]) -> None:
        self._queue = queue
        self.ticket = -1
        self.is_answered = False

    def __call__(self) -> None:
        """Answer what nobody waits for any more, as far as no thread has taken it yet."""
        for task in self._queue.withdraw(self.ticket):
            task.answer(Cancelled(GIVEN_UP))

    def answered(
        self, cancellation: Cancellation, done: RunCallback, result: Outputs | ServingError
    ) -> None:
        self.is_answered = True
        cancellation.forget(self)
        done(result)
