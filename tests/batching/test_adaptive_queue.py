"""Batches as large as pays, found without being told: rules one by one, then whole loads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from serving.batching.adaptive_queue import AdaptiveQueue
from serving.batching.batch_queue import Batch, Entry
from serving.batching.batching_options import Admission, BatchingOptions, QueueOptions
from serving.batching.run_times import RunTimes
from serving.core.errors import InvalidArgument, Unavailable


def adaptive(
    run_times: RunTimes | None = None,
    allowed: tuple[int, ...] = (),
    instances: int = 1,
    admission: Admission | None = None,
    **queue: int,
) -> AdaptiveQueue:
    options = BatchingOptions(
        QueueOptions(**{"max_enqueued_batches": 1000, "max_batch_size": 256, **queue}),
        allowed_batch_sizes=allowed,
        adaptive=True,
        admission=admission,
    )
    return AdaptiveQueue(options, cut, run_times or RunTimes(), instances)


def cut(task: str, sizes: Sequence[int]) -> list[str]:
    """A task named ``aaab`` is one of four rows."""
    letters = iter(task)
    return ["".join(itertools.islice(letters, size)) for size in sizes]


class Driven:
    """A queue, and a model that takes ``run_seconds`` for so many rows; time is counted here."""

    def __init__(self, run_seconds: Callable[[int], float], **options: object) -> None:
        self._run_times = RunTimes()
        self.queue: AdaptiveQueue[str] = adaptive(self._run_times, **options)
        self.now = 0.0
        self._run_seconds = run_seconds
        self._tickets = itertools.count()

    def add(self, *tasks: str) -> None:
        for task in tasks:
            self.queue.add(Entry(next(self._tickets), task, len(task)), self.now)

    def run(self) -> list[str]:
        self.now = max(self.now, self.queue.ready_at)
        batch = self.queue.take(self.now)
        seconds = self._run_seconds(batch.size)
        self.now += seconds
        self._run_times.learn(batch.size, seconds)
        self.queue.processed(batch, self.now)
        return batch.tasks

    def take_all(self) -> list[Batch[str]]:
        """As many batches as may be in progress now, on three threads."""
        batches: list[Batch[str]] = []
        while self.queue.ready_at <= self.now and len(batches) < 3:
            batches.append(self.queue.take(self.now))
        return batches

    def run_side_by_side(self) -> list[int]:
        """The sizes of batches that begin and end at the same time."""
        self.now = max(self.now, self.queue.ready_at)
        batches = self.take_all()
        self.now += max(self._run_seconds(batch.size) for batch in batches)
        for batch in batches:
            self.queue.processed(batch, self.now)
        return [batch.size for batch in batches]


def test_the_first_batch_has_one_row_and_the_next_twice_as_many_while_that_pays():
    driven = Driven(lambda _: 0.01)
    driven.add(*"abcdefghijklmno")
    assert [len(driven.run()) for _ in range(4)] == [1, 2, 4, 8]


def test_where_rows_take_the_same_time_in_any_batch_they_run_one_by_one():
    driven = Driven(lambda size: 0.01 * size)
    driven.add(*"abcdefghijklmnopqrstuvwxyz")
    sizes = [len(driven.run()) for _ in range(12)]
    assert sizes == [1, 2, 4, *[1] * 9]  # four rows may pay where two do not


def test_a_task_larger_than_a_batch_should_be_runs_alone_and_the_order_stays():
    driven = Driven(lambda size: 0.01 * size)
    driven.add("a", "b", "c", "dddd", "e", "ff")
    assert [driven.run() for _ in range(5)] == [["a"], ["b", "c"], ["dddd"], ["e"], ["ff"]]


def test_sizes_are_those_allowed():
    driven = Driven(lambda _: 0.01, allowed=(4, 256))
    driven.add(*"abcdefgh")
    assert driven.run() == ["a", "b", "c", "d"]


def test_one_batch_runs_at_a_time_where_larger_ones_pay():
    driven = Driven(lambda _: 0.01)
    driven.add(*"abcdefghijklmnop")
    for _ in range(2):
        driven.run()
    batch = driven.queue.take(driven.now)
    assert len(batch.tasks) == 4
    assert driven.queue.ready_at == math.inf


def test_a_batch_runs_in_each_instance_and_they_share_what_there_is():
    driven = Driven(lambda _: 0.01, instances=3)
    driven.add(*["a"] * 60)
    while not driven.queue.is_empty:
        driven.run_side_by_side()
    driven.add(*"abcdefgh")
    batches = driven.take_all()
    assert [len(batch.tasks) for batch in batches] == [3, 3, 2]
    driven.add(*"pqrst")
    assert driven.queue.ready_at == math.inf
    driven.queue.processed(batches[1], driven.now)
    assert driven.queue.ready_at == -math.inf


def test_an_instance_whose_batch_does_not_come_back_leaves_the_others_to_work():
    driven = Driven(lambda _: 0.01, instances=2)
    driven.add(*"abcdefgh")
    answered = driven.run() + driven.run()
    hung = driven.queue.take(driven.now)
    driven.add(*"ijklmnop")
    while not driven.queue.is_empty:
        answered += driven.run()
    assert sorted([*hung.tasks, *answered]) == list("abcdefghijklmnop")


def test_a_wait_begins_when_an_instance_is_free_and_ends_with_its_share_of_the_tasks():
    driven = Driven(lambda _: 0.01, instances=2)
    driven.add(*"abcdefgh")
    while not driven.queue.is_empty:
        driven.run()
    driven.add("i")
    driven.now = driven.queue.ready_at
    running = driven.queue.take(driven.now)
    driven.add("j")
    ready_at = driven.queue.ready_at
    assert driven.now < ready_at <= driven.now + 0.005
    driven.now += 0.0001
    driven.queue.processed(running, driven.now)
    assert driven.queue.ready_at == ready_at
    driven.add(*"klm")
    assert driven.queue.ready_at == -math.inf


def test_a_lone_task_waits_for_nobody():
    driven = Driven(lambda _: 0.01)
    for task in "abc":
        driven.add(task)
        assert driven.run() == [task]
    driven.add("d")
    assert driven.queue.ready_at == -math.inf


def test_a_task_waits_for_as_many_as_there_were_but_only_for_a_share_of_its_run():
    driven = Driven(lambda _: 0.01)
    driven.add(*"abcdefg")
    while not driven.queue.is_empty:
        driven.run()
    driven.add("h")
    assert driven.now < driven.queue.ready_at <= driven.now + 0.005
    driven.add(*"ijklmno")
    assert driven.queue.ready_at == -math.inf


def test_an_ending_queue_waits_for_nobody_and_takes_no_more():
    driven = Driven(lambda _: 0.01)
    driven.add(*"abcdefg")
    while not driven.queue.is_empty:
        driven.run()
    driven.add("h")
    driven.queue.end()
    assert driven.queue.ready_at == -math.inf
    with pytest.raises(Unavailable):
        driven.add("i")


def test_deadlines_end_the_wait_early_where_they_are_minded():
    driven = Driven(lambda _: 0.01, deadline_aware=True)
    driven.add(*"abcdefg")
    while not driven.queue.is_empty:
        driven.run()
    driven.queue.add(Entry(99, "h", 1, driven.now + 0.0131), driven.now)  # with time to spare
    assert driven.queue.ready_at == pytest.approx(driven.now + 0.0001)


@pytest.mark.parametrize(("most_micros", "seconds"), [(1_000, 0.001), (60_000_000, 0.004375)])
def test_no_wait_for_more_is_longer_than_any_wait_may_be(most_micros: int, seconds: float):
    driven = Driven(lambda _: 0.01, admission=Admission(most_micros))
    driven.add(*"abcdefg")
    while not driven.queue.is_empty:
        driven.run()
    driven.add("h")
    assert driven.queue.ready_at == pytest.approx(driven.now + seconds)


def test_what_is_withdrawn_is_not_taken_and_leaves_its_room():
    queue: AdaptiveQueue[str] = adaptive(max_batch_size=2, max_enqueued_batches=1)
    queue.add(Entry(1, "a", 1), 0.0)
    queue.add(Entry(2, "b", 1), 0.0)
    assert queue.withdraw(1) == ["a"]
    assert queue.withdraw(1) == []
    queue.add(Entry(3, "c", 1), 0.0)
    batch = queue.take(0.0)
    assert batch.tasks == ["b"]


def test_the_room_is_counted_in_rows():
    queue: AdaptiveQueue[str] = adaptive(max_batch_size=4, max_enqueued_batches=2)
    for ticket in range(2):
        queue.add(Entry(ticket, "a", 4), 0.0)
    with pytest.raises(Unavailable, match="8 rows enqueued and the capacity is 8"):
        queue.add(Entry(3, "b", 1), 0.0)
    with pytest.raises(InvalidArgument, match="Task size 5 is larger than maximum input batch"):
        queue.add(Entry(3, "b", 5), 0.0)


def test_a_batch_has_no_more_tasks_and_a_queue_no_more_than_they_may_have_rows():
    """Tasks without rows would fill neither."""
    queue: AdaptiveQueue[str] = adaptive(max_batch_size=3, max_enqueued_batches=2)
    for ticket in range(6):
        queue.add(Entry(ticket, "", 0), 0.0)
    with pytest.raises(Unavailable, match="6 tasks enqueued"):
        queue.add(Entry(6, "a", 1), 0.0)
    assert queue.take(0.0).tasks == [""] * 3


def test_a_task_may_be_spread_over_batches_where_that_is_wanted():
    driven = Driven(
        lambda size: 0.01 * size,
        max_execution_batch_size=4,
        enable_large_batch_splitting=True,
    )
    driven.add("a", "bbbbbbbbb", "c")
    assert [driven.run() for _ in range(4)] == [["a"], ["bbbb"], ["bbbb"], ["b", "c"]]
    assert driven.queue.is_empty


def test_what_is_here_still_of_a_task_in_parts_is_withdrawn():
    driven = Driven(lambda _: 0.01, max_execution_batch_size=2, enable_large_batch_splitting=True)
    driven.add("aaaaa", "b")
    assert driven.run() == ["aa"]
    assert driven.queue.withdraw(0) == ["aa", "a"]
    assert driven.run() == ["b"]
    assert driven.queue.is_empty


def test_what_waits_is_expected_to_run_in_batches_of_the_size_in_force():
    driven = Driven(lambda size: 0.01 * size)
    driven.add(*"abc")
    for _ in range(3):
        driven.run()
    driven.add(*"defg")
    assert driven.queue.expected_seconds == pytest.approx(0.04)


def test_a_batch_that_ran_beside_those_of_another_setting_tells_nothing_of_a_trial():
    driven = Driven(lambda size: 0.01 * size)
    driven.add("a")
    driven.run()
    driven.add(*["a"] * 40)
    before = driven.take_all()
    driven.queue.processed(before.pop(), driven.now + 0.01)
    assert driven.queue.most_at_once == 1  # two rows are to be tried
    while before:
        assert driven.queue.ready_at == math.inf
        driven.queue.processed(before.pop(), driven.now + 0.01)


def test_what_failed_says_nothing_of_how_quick_a_setting_is():
    driven = Driven(lambda _: 0.01)
    driven.add(*["a"] * 20)
    for _ in range(5):
        batch = driven.queue.take(driven.now)
        batch.succeeded = False
        driven.queue.processed(batch, driven.now)
        assert batch.size == 1
