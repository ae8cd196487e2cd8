"""Priorities in batching queues."""

from __future__ import annotations

import numpy as np
import pytest
from clocked_batches import Batched, error

from serving.batching import batching_session
from serving.batching.batching_options import (
    BatchingOptions,
    QueueOptions,
)
from serving.batching.batching_session import BatchingServable
from serving.core.priority import Priority
from serving.core.servable import RunOptions


def test_without_priorities_queues_take_turns_however_long_they_have_waited():
    batched = Batched(BatchingOptions(QueueOptions(max_batch_size=1)))
    other = Batched(BatchingOptions(QueueOptions(max_batch_size=1)))
    later = BatchingServable(
        other.model,
        other.model,
        batched.scheduler,
        BatchingOptions(QueueOptions(max_batch_size=1)),
        batched.clock,
    )
    order: list[str] = []
    feeds = {"x:0": np.zeros(1, np.float32)}
    for _ in range(3):
        batched.servable.run(feeds, ["y:0"], RunOptions(), lambda _: order.append("early"))
    batched.clock.advance(5)
    for _ in range(3):
        later.run(feeds, ["y:0"], RunOptions(), lambda _: order.append("late"))
    batched.step()
    assert order == ["early", "late"] * 3


class TestPriorities:
    def test_requests_of_a_higher_priority_go_first(self):
        batched = Batched(BatchingOptions(honor_priorities=True))
        batched.send(1.0, priority=Priority.LOW)
        batched.send(2.0, priority=Priority.NORMAL)
        batched.send(3.0, priority=Priority.HIGH)
        assert batched.step() == [[3.0], [2.0], [1.0]]

    def test_one_that_waited_for_too_long_has_its_turn_among_them(self):
        options = BatchingOptions(
            QueueOptions(max_batch_size=1), honor_priorities=True, max_priority_wait_micros=500_000
        )
        batched = Batched(options)
        batched.model.seconds = 0.3
        batched.send(0.0, priority=Priority.LOW)
        for _ in range(6):
            batched.send(1.0, priority=Priority.HIGH)
        assert batched.step().index([0.0]) in (2, 3)

    def test_where_they_are_not_honored_they_share_a_batch(self):
        batched = Batched(BatchingOptions())
        for priority in Priority:
            batched.send(1.0, priority=priority)
        assert batched.step() == [[1.0, 1.0, 1.0]]

    def test_they_are_nothing_to_versions_that_do_not_honor_them(self):
        honoring = Batched(BatchingOptions(QueueOptions(max_batch_size=1), honor_priorities=True))
        plain = BatchingServable(
            honoring.model,
            honoring.model,
            honoring.scheduler,
            BatchingOptions(QueueOptions(max_batch_size=1)),
            honoring.clock,
        )
        for _ in range(5):
            honoring.send(1.0, priority=Priority.HIGH)
        plain.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), lambda _: None)
        assert [0.0] in honoring.step()[:2]

    def test_what_waited_when_they_came_to_be_honored_has_its_turn_too(self):
        plain = QueueOptions(max_batch_size=1)
        batched = Batched(BatchingOptions(plain))
        batched.send(0.0)
        batched.servable.reconfigure(BatchingOptions(plain, honor_priorities=True))
        for _ in range(5):
            batched.send(1.0, priority=Priority.HIGH)
        assert [0.0] in batched.step()[:2]


def test_what_clients_choose_leaves_each_priority_of_a_signature_its_queue(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(batching_session, "_MOST_QUEUES_OF_REQUESTS", 1)
    batched = Batched(BatchingOptions(honor_priorities=True))
    feeds = {"x:0": np.zeros(1, np.float32)}
    batched.servable.run(feeds, ["other:0"], RunOptions(), lambda _: None)
    results = [batched.send(1.0, priority=priority) for priority in Priority]
    assert results == [[]] * len(Priority)  # all of them wait in queues
    batched.step()
    assert [error(each) for each in results] == [list] * len(Priority)
