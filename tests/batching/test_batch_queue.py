"""One queue's rules: which batch a task goes to, when a batch may be taken, when it is full."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest

from serving.batching.batch_queue import BatchQueue, Entry
from serving.batching.batching_options import QueueOptions
from serving.batching.run_times import RunTimes
from serving.core.errors import InvalidArgument, Unavailable

tickets = itertools.count()


def cut(task: str, sizes: Sequence[int]) -> list[str]:
    """A task named ``aaab`` is one of four rows."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [task[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def queue_of(**options: int) -> BatchQueue[str]:
    return BatchQueue(QueueOptions(**options), cut, RunTimes())


def add(queue: BatchQueue[str], *tasks: str, now: float = 0.0) -> None:
    for task in tasks:
        queue.add(Entry(next(tickets), task, len(task)), now)


def take_all(queue: BatchQueue[str], now: float = 0.0) -> list[list[str]]:
    taken = []
    while queue.ready_at <= now:
        batch = queue.take(now)
        assert batch.size == sum(map(len, batch.tasks))
        taken.append(batch.tasks)
    return taken


def refusal(queue: BatchQueue[str], task: str) -> tuple[type, str]:
    with pytest.raises((InvalidArgument, Unavailable)) as raised:
        add(queue, task)
    return type(raised.value), raised.value.message


def test_a_task_that_does_not_fit_closes_the_batch_and_opens_the_next():
    queue = queue_of(max_batch_size=4)
    add(queue, "aa", "b", "cc", "dd", "e")
    assert take_all(queue) == [["aa", "b"], ["cc", "dd"], ["e"]]


def test_later_tasks_do_not_fill_gaps_in_closed_batches():
    queue = queue_of(max_batch_size=4)
    add(queue, "aaa", "bb", "c")
    assert take_all(queue) == [["aaa"], ["bb", "c"]]


def test_the_open_batch_waits_for_its_timeout_from_its_first_task_on():
    queue = queue_of(max_batch_size=4, batch_timeout_micros=500_000)
    add(queue, "a", now=10.0)
    add(queue, "b", now=10.25)
    assert queue.ready_at == 10.5
    assert take_all(queue, now=10.25) == []
    assert take_all(queue, now=10.5) == [["a", "b"]]
    add(queue, "c", now=11.0)
    assert queue.ready_at == 11.5


def test_a_full_batch_and_a_closed_one_wait_for_nothing():
    queue = queue_of(max_batch_size=2, batch_timeout_micros=500_000)
    add(queue, "a", "b")
    assert queue.ready_at == -math.inf
    add(queue, "c")
    assert take_all(queue) == [["a", "b"]]
    assert queue.ready_at == 0.5


def test_an_empty_queue_has_nothing_to_take_at_any_time():
    queue = queue_of()
    assert queue.is_empty
    assert queue.ready_at == math.inf


def test_a_queue_that_ends_takes_no_task_and_gives_what_it_holds_at_once():
    queue = queue_of(max_batch_size=4, batch_timeout_micros=500_000)
    add(queue, "a")
    queue.end()
    assert refusal(queue, "b") == (Unavailable, "The batch scheduling queue takes no more tasks")
    assert take_all(queue) == [["a"]]
    assert queue.is_empty


@pytest.mark.parametrize("splitting", [False, True])
def test_a_batch_has_no_more_tasks_than_it_may_have_rows(splitting: bool):
    """Tasks without rows would fill it never, and make it larger without end."""
    queue = queue_of(
        max_batch_size=3,
        max_enqueued_batches=2,
        batch_timeout_micros=500_000,
        enable_large_batch_splitting=splitting,
    )
    add(queue, "", "", "")
    assert queue.ready_at == -math.inf
    add(queue, "a", "", "")
    assert refusal(queue, "")[0] is Unavailable
    assert refusal(queue, "b")[0] is Unavailable
    assert take_all(queue) == [["", "", ""], ["a", "", ""]]


def test_what_comes_to_a_batch_full_of_tasks_without_rows_is_split_over_the_next_ones():
    queue = queue_of(
        max_batch_size=6,
        max_execution_batch_size=2,
        max_enqueued_batches=4,
        enable_large_batch_splitting=True,
    )
    add(queue, "", "", "aaa")
    assert take_all(queue) == [["", ""], ["aa"], ["a"]]


def test_a_task_without_rows_goes_along_with_a_full_batch():
    queue = queue_of(max_batch_size=2, batch_timeout_micros=500_000)
    add(queue, "aa", "")
    assert take_all(queue) == [["aa", ""]]
    add(queue, "")
    assert take_all(queue) == []
    assert take_all(queue, now=0.5) == [[""]]


@pytest.mark.parametrize("splitting", [False, True])
def test_a_task_may_be_as_large_as_the_limit_and_no_larger(splitting: bool):
    queue = queue_of(max_batch_size=8, enable_large_batch_splitting=splitting)
    assert refusal(queue, "a" * 9) == (
        InvalidArgument,
        "Task size 9 is larger than maximum input batch size 8",
    )
    add(queue, "a" * 8)
    assert take_all(queue) == [["a" * 8]]


def test_a_queue_is_full_when_the_task_needs_a_batch_beyond_the_last():
    queue = queue_of(max_batch_size=4, max_enqueued_batches=2)
    add(queue, "aaaa", "bbb")
    assert refusal(queue, "cc") == (
        Unavailable,
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches "
        "enqueued and max_enqueued_batches is 2",
    )
    add(queue, "d")
    assert take_all(queue) == [["aaaa"], ["bbb", "d"]]


def test_no_enqueued_batches_mean_one():
    queue = queue_of(max_batch_size=4, max_enqueued_batches=0)
    add(queue, "aaa", "b")
    assert refusal(queue, "c")[1].endswith(
        "currently 1 batches enqueued and max_enqueued_batches is 1"
    )


def splitting(**options: int) -> BatchQueue[str]:
    return queue_of(enable_large_batch_splitting=True, **options)


def test_a_large_task_fills_the_open_batch_and_as_many_more_as_it_takes():
    queue = splitting(max_batch_size=12, max_execution_batch_size=4)
    add(queue, "aaa", "bcccc" + "dddd" + "e", "ff")
    assert take_all(queue) == [["aaa", "b"], ["cccc"], ["dddd"], ["e", "ff"]]


def test_a_large_task_leaves_a_full_batch_alone():
    queue = splitting(max_batch_size=12, max_execution_batch_size=4)
    add(queue, "aaaa", "bbbbcc")
    assert take_all(queue) == [["aaaa"], ["bbbb"], ["cc"]]


def test_without_splitting_a_task_keeps_together():
    queue = queue_of(max_batch_size=4)
    add(queue, "aaa", "bb")
    assert take_all(queue) == [["aaa"], ["bb"]]


def test_a_split_task_needs_room_for_all_its_rows():
    queue = splitting(max_batch_size=12, max_execution_batch_size=4, max_enqueued_batches=2)
    add(queue, "aaaa", "b")
    assert refusal(queue, "c" * 9) == (
        Unavailable,
        "The batch scheduling queue to which this task was submitted is full; task size is 9 but "
        "scheduling capacity is only 3 (num_enqueued_batches=2, max_enqueued_batches=2, "
        "open_batch_size=1, max_execution_batch_size=4)",
    )
    add(queue, "ddd")
    assert take_all(queue) == [["aaaa"], ["b", "ddd"]]


def test_of_ten_thousand_batches_any_task_can_be_withdrawn():
    queue = queue_of(max_batch_size=1, max_enqueued_batches=20_000)
    for number in range(10_000):
        queue.add(Entry(number, "a", 1), 0.0)
    for number in range(0, 10_000, 2):
        assert queue.withdraw(number) == ["a"]
        assert queue.withdraw(number) == []
    assert len(take_all(queue)) == 5_000


def test_a_split_task_is_withdrawn_from_every_batch_that_has_a_part():
    queue = queue_of(
        max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=2
    )
    queue.add(Entry(1, "a", 1), 0.0)
    queue.add(Entry(2, "bcdef", 5), 0.0)
    queue.add(Entry(3, "gh", 2), 0.0)
    assert queue.withdraw(2) == ["b", "cd", "ef"]
    assert take_all(queue) == [["a"], ["gh"]]


def test_a_batch_from_which_tasks_are_withdrawn_takes_others_while_it_is_open():
    queue = queue_of(max_batch_size=2)
    queue.add(Entry(1, "a", 1), 0.0)
    queue.add(Entry(2, "b", 1), 0.0)
    queue.withdraw(1)
    queue.add(Entry(3, "c", 1), 0.0)
    assert take_all(queue) == [["b", "c"]]


def test_the_deadline_of_a_task_that_was_withdrawn_closes_no_batch():
    queue = queue_of(max_batch_size=4, batch_timeout_micros=1_000_000, deadline_aware=True)
    queue.add(Entry(1, "a", 1, 0.5), 0.0)
    queue.withdraw(1)
    queue.add(Entry(2, "b", 1), 10.0)
    assert queue.ready_at == 11.0
