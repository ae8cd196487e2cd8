"""Options are checked when they are made, in TensorFlow Serving's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.core.errors import InvalidArgument


def test_defaults():
    queue = QueueOptions()
    assert (queue.max_batch_size, queue.batch_timeout_micros, queue.max_enqueued_batches) == (
        1000,
        0,
        10,
    )
    assert queue.execution_limit == 1000
    assert SchedulerOptions(1).thread_pool_name == "batch_threads"


def splitting(most: int, execution: int | None, **more: int) -> QueueOptions:
    return QueueOptions(
        max_batch_size=most,
        enable_large_batch_splitting=True,
        max_execution_batch_size=execution,
        **more,
    )


def test_a_batch_is_as_large_as_a_task_may_be_unless_tasks_are_split():
    assert splitting(8, None).execution_limit == 8
    assert splitting(8, 3).execution_limit == 3
    assert QueueOptions(max_batch_size=8, max_execution_batch_size=3).execution_limit == 8


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SchedulerOptions(0), "num_batch_threads must be positive; was 0"),
        (lambda: SchedulerOptions(-2), "num_batch_threads must be positive; was -2"),
        (
            lambda: QueueOptions(max_batch_size=0),
            "input_batch_size_limit must be positive; was 0",
        ),
        (
            lambda: QueueOptions(batch_timeout_micros=-1),
            "batch_timeout_micros must be non-negative; was -1",
        ),
        (
            lambda: QueueOptions(max_enqueued_batches=-1),
            "max_enqueued_batches must be positive; was -1",
        ),
        (
            lambda: splitting(8, 8, max_enqueued_batches=0),
            "max_enqueued_batches must be positive; was 0",
        ),
        (lambda: splitting(8, 0), "max_execution_batch_size must be positive; was 0"),
        (
            lambda: splitting(8, 9),
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater "
            "than or equal to max_execution_batch_size. They are 8 and 9",
        ),
        (
            lambda: BatchingOptions(QueueOptions(max_batch_size=8), (2, 4)),
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
            "expected 8",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(make: Callable[[], object], text: str):
    with pytest.raises(InvalidArgument) as raised:
        make()
    assert raised.value.message == text


def test_allowed_sizes_need_not_increase():
    sizes = (4, 2, 8)
    assert BatchingOptions(QueueOptions(max_batch_size=8), sizes).allowed_batch_sizes == sizes
