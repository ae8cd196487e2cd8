"""Batches some of whose deadlines are past."""

from __future__ import annotations

import numpy as np
import pytest
from batched_servable import EXPIRED, Batched, Recorder, error, values

from serving.core.errors import (
    DeadlineExceeded,
    ResourceExhausted,
)
from serving.core.servable import (
    RunOptions,
)


@pytest.mark.parametrize(
    ("deadlines", "effective"), [([1.0, 3.0, 2.0], 3.0), ([1.0, None, 2.0], None)]
)
def test_a_batch_runs_with_the_latest_deadline(
    deadlines: list[float | None], effective: float | None
):
    recorder = Recorder()
    batched = Batched(recorder)
    start = batched.clock.monotonic()
    points = [None if after is None else start + after for after in deadlines]
    tasks = [batched.send([0.0], deadline=point) for point in points]
    batched.clock.advance(0.5)
    batched.step()
    assert [values(task) for task in tasks] == [[[2.0]]] * len(tasks)
    assert recorder.options == [RunOptions(None if effective is None else start + effective)]


@pytest.mark.parametrize("other", [3.0, None])
def test_a_request_whose_deadline_passed_in_the_queue_runs_with_those_in_time(
    other: float | None,
):
    """As in TensorFlow Serving."""
    recorder = Recorder()
    batched = Batched(recorder)
    start = batched.clock.monotonic()
    late = batched.send([2.0], deadline=start + 1)
    in_time = batched.send([0.0], deadline=other and start + other)
    batched.clock.advance(2)
    batched.step()
    assert (values(late), values(in_time)) == ([[3.0]], [[2.0]])
    assert recorder.options == [RunOptions(other and start + other)]


@pytest.mark.parametrize("other", [3.0, None])
def test_where_deadlines_are_minded_it_is_left_out_of_its_batch(other: float | None):
    recorder = Recorder()
    batched = Batched(recorder, max_batch_size=8, allowed_batch_sizes=(2, 8), deadline_aware=True)
    start = batched.clock.monotonic()
    late = batched.send(np.ones(3), deadline=start + 1)
    in_time = batched.send([0.0], deadline=other and start + other)
    batched.clock.advance(2)
    batched.step()
    assert error(late)[0] is DeadlineExceeded
    assert values(in_time) == [[2.0]]
    assert recorder.feeds[0]["x:0"].tolist() == [0.0, 0.0]
    assert recorder.options == [RunOptions(other and start + other)]


def test_a_batch_of_which_every_deadline_is_past_is_not_run():
    recorder = Recorder()
    batched = Batched(recorder)
    start = batched.clock.monotonic()
    tasks = [batched.send([0.0], deadline=start + after) for after in (1.0, 2.0)]
    batched.clock.advance(2.0)
    batched.step()
    assert [error(task) for task in tasks] == [(ResourceExhausted, EXPIRED)] * 2
    assert recorder.rows == []
