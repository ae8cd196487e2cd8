"""Whose turn it is among queues that have something ready."""

from __future__ import annotations

import itertools

import pytest

from serving.batching.batch_queue import BatchQueue, Entry
from serving.batching.batching_options import QueueOptions
from serving.batching.lane import Lane, Place
from serving.batching.run_times import RunTimes
from serving.batching.turns import Turns


def lanes(*places: Place, oldest_since: float = 0.0) -> list[Lane]:
    made = []
    for number, place in enumerate(places):
        queue: BatchQueue[str] = BatchQueue(QueueOptions(), lambda task, _: [task], RunTimes())
        queue.add(Entry(0, "task", 1), oldest_since)
        made.append(Lane(number, queue, lambda _: None, place))
    return made


def turns_of(waiting: list[Lane], count: int, now: float = 0.0) -> list[int]:
    turns, taken = Turns(), []
    for _ in range(count):
        lane = turns.order(waiting, now)[0]
        turns.taken(lane, now)
        taken.append(lane.number)
    return taken


def test_equals_take_turns():
    assert turns_of(lanes(Place(), Place(), Place()), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_a_weight_is_so_many_turns_in_a_row():
    assert turns_of(lanes(Place(), Place(weight=3), Place()), 7) == [0, 1, 1, 1, 2, 0, 1]


def test_the_turns_that_a_queue_does_not_use_are_not_saved_up():
    turns, (a, b) = Turns(), lanes(Place(weight=2), Place())
    turns.taken(a, 0)
    turns.taken(b, 0)  # a had nothing ready
    assert [lane.number for lane in turns.order([a, b], 0)] == [0, 1]
    turns.taken(a, 0)
    turns.taken(a, 0)
    assert [lane.number for lane in turns.order([a, b], 0)] == [1, 0]


def test_a_smaller_priority_number_goes_first_and_equals_take_turns_after_it():
    waiting = lanes(Place(priority=2), Place(priority=0), Place(priority=1), Place(priority=0))
    assert [lane.number for lane in Turns().order(waiting, 0)] == [1, 3, 2, 0]
    assert turns_of(waiting, 3) == [1, 3, 1]


@pytest.mark.parametrize(("now", "expected"), [(0.4, [1, 1, 1, 1]), (0.5, [0, 1, 0, 1])])
def test_what_has_waited_for_too_long_takes_turns_with_the_first(now: float, expected: list[int]):
    waiting = lanes(Place(priority=2, max_wait_seconds=0.5), Place(priority=0))
    assert turns_of(waiting, 4, now) == expected


def test_the_order_holds_every_queue_once_whatever_was_taken_before():
    waiting = lanes(*(Place(weight=1 + n % 2, priority=n % 3) for n in range(6)))
    turns = Turns()
    for taken in itertools.islice(itertools.cycle(waiting), 20):
        turns.taken(taken, 10.0)
        assert sorted(lane.number for lane in turns.order(waiting, 10.0)) == list(range(6))


def test_equals_beside_one_that_goes_first_all_have_their_turns():
    first, a, b = lanes(Place(priority=0), Place(priority=1), Place(priority=1))
    turns, taken = Turns(), []
    for waiting in ([first, a, b], [a, b], [first, a, b], [a, b], [first, a, b], [a, b]):
        lane = turns.order(waiting, 0)[0]
        turns.taken(lane, 0)
        taken.append(lane.number)
    assert taken == [0, 1, 0, 2, 0, 1]
