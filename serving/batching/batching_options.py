"""How requests are joined into batches: what BatchingParameters says, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from serving.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """The batch threads that all queues share.

    With ``hung_batch_seconds``, which TensorFlow Serving does not have, a thread whose batch has
    run for so long is not counted among them until it comes back: another takes its place; 0: none
    is. Raises InvalidArgument, with TensorFlow Serving's text, unless there is a thread.
    """

    num_batch_threads: int
    thread_pool_name: str = "batch_threads"
    hung_batch_seconds: int = 0

    def __post_init__(self) -> None:
        if self.num_batch_threads < 1:
            raise InvalidArgument(
                f"num_batch_threads must be positive; was {self.num_batch_threads}"
            )
        if self.hung_batch_seconds < 0:
            raise InvalidArgument(
                f"hung_batch_seconds must be non-negative; was {self.hung_batch_seconds}"
            )


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """The limits of one queue; sizes are rows.

    ``max_batch_size`` bounds a task, and a batch too unless ``enable_large_batch_splitting``
    spreads tasks over batches of ``max_execution_batch_size`` (None: as large as a task may be).
    The open batch waits ``batch_timeout_micros`` after its first task came.
    ``max_enqueued_batches`` counts the open batch; without splitting, 0 means 1. Raises
    InvalidArgument, with TensorFlow Serving's texts, for what contradicts this.

    With ``deadline_aware``, which TensorFlow Serving does not have, a batch closes early enough for
    the deadlines of its tasks, by the run times seen so far.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None
    deadline_aware: bool = False

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            raise InvalidArgument(
                f"input_batch_size_limit must be positive; was {self.max_batch_size}"
            )
        if self.batch_timeout_micros < 0:
            raise InvalidArgument(
                f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}"
            )
        if self.max_enqueued_batches < (1 if self.enable_large_batch_splitting else 0):
            raise InvalidArgument(
                f"max_enqueued_batches must be positive; was {self.max_enqueued_batches}"
            )
        if self.enable_large_batch_splitting:
            self._check_execution_batch_size()

    @property
    def execution_limit(self) -> int:
        """The most rows of one batch."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def _check_execution_batch_size(self) -> None:
        if self.execution_limit < 1:
            raise InvalidArgument(
                f"max_execution_batch_size must be positive; was {self.execution_limit}"
            )
        if self.execution_limit > self.max_batch_size:
            raise InvalidArgument(
                "When enable_large_batch_splitting is true, input_batch_size_limit must be "
                "greater than or equal to max_execution_batch_size. They are "
                f"{self.max_batch_size} and {self.execution_limit}"
            )


@dataclass(frozen=True, slots=True)
class Admission:
    """Refuse what would have to wait past its deadline, or for longer than ``max_wait_micros``.

    None: for any time. Raises InvalidArgument for a time that is negative.
    """

    max_wait_micros: int | None = None

    def __post_init__(self) -> None:
        if self.max_wait_micros is not None and self.max_wait_micros < 0:
            raise InvalidArgument(
                f"max_expected_wait_micros must be non-negative; was {self.max_wait_micros}"
            )

    @property
    def max_wait_seconds(self) -> float:
        """Inf for any time."""
        return math.inf if self.max_wait_micros is None else self.max_wait_micros / 1e6


@dataclass(frozen=True, slots=True)
class BatchingOptions:
    """How the requests for one servable are queued and joined.

    A batch is filled up to the next of ``allowed_batch_sizes``, if there are any; the last must
    be the queue's ``max_batch_size``, else InvalidArgument is raised. With
    ``pad_variable_length_inputs`` tensors that differ beyond dimension 0 are padded to the largest.

    The rest is not TensorFlow Serving's, and off by default. With ``retry_failed_batch_in_halves``
    a batch of n requests that fails, maybe by what is in them, is run in up to 2n - 1 runs, so that
    the others succeed. ``adaptive`` finds the size of batches and the wait for them by measured run
    times. ``honor_priorities`` gives requests of a higher priority the first turn, unless others
    have waited for ``max_priority_wait_micros``; ``weight`` is how many turns in a row a queue has.
    ``max_batches_in_progress`` bounds the batches of the servable that run at once; 0: by the
    threads there are. Raises InvalidArgument for numbers that are out of their range.
    """

    queue: QueueOptions = field(default_factory=QueueOptions)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    retry_failed_batch_in_halves: bool = False
    adaptive: bool = False
    admission: Admission | None = None
    honor_priorities: bool = False
    max_priority_wait_micros: int = 1_000_000
    weight: int = 1
    max_batches_in_progress: int = 0

    def __post_init__(self) -> None:
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.queue.max_batch_size:
            raise InvalidArgument(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {self.queue.max_batch_size}"
            )
        self._check_at_least(1, weight=self.weight)
        self._check_at_least(
            0,
            max_priority_wait_micros=self.max_priority_wait_micros,
            max_batches_in_progress=self.max_batches_in_progress,
        )

    @property
    def sizes_to_choose_from(self) -> tuple[int, ...]:
        """The sizes of batches that are worth a trial, ascending: those allowed, or powers of 2."""
        limit = self.queue.execution_limit
        sizes = {size for size in self.allowed_batch_sizes if 0 < size <= limit}
        if not sizes:
            sizes = {2**power for power in range(limit.bit_length())} | {limit}
        return tuple(sorted(sizes))

    def _check_at_least(self, least: int, **numbers: int) -> None:
        for name, number in numbers.items():
            if number < least:
                kind = "positive" if least else "non-negative"
                raise InvalidArgument(f"{name} must be {kind}; was {number}")
