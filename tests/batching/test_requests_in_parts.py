"""Requests that are spread over several batches, and answered once."""

from __future__ import annotations

import numpy as np
from batched_servable import EXPIRED, Batched, Feeds, Recorder, error, values

from serving.core.errors import (
    Internal,
    InvalidArgument,
    ResourceExhausted,
)
from serving.core.servable import (
    Servable,
)


def splitting(servable: Servable, **more: bool) -> Batched:
    return Batched(
        servable,
        max_batch_size=8,
        enable_large_batch_splitting=True,
        max_execution_batch_size=2,
        **more,
    )


def test_a_large_request_runs_in_several_batches_and_is_answered_once():
    recorder = Recorder()
    batched = splitting(recorder)
    small, large, last = batched.send([0.0]), batched.send(np.arange(4.0)), batched.send([2.0])
    batched.step()
    assert recorder.rows == [2, 2, 2]
    assert values(small) == [[2.0]]
    assert values(large) == [[2.0, 2.5, 3.0, 3.5]]
    assert values(last) == [[3.0]]


def test_the_first_error_of_a_part_is_the_requests():
    runs: list[int] = []

    def fail_later(feeds: Feeds) -> Feeds:
        runs.append(len(runs))
        if len(runs) > 1:
            raise ValueError(f"run {len(runs)}")
        return {"y:0": feeds["x:0"]}

    batched = splitting(Recorder(fail_later))
    large = batched.send(np.arange(6.0))
    batched.step()
    assert runs == [0, 1, 2]
    assert error(large) == (InvalidArgument, "run 2")


def test_a_large_request_that_expires_between_its_batches_runs_no_further():
    recorder = Recorder()
    batched = splitting(recorder)
    large = batched.send(np.arange(4.0), deadline=batched.clock.monotonic() + 1)
    other = batched.send([2.0])
    assert batched.scheduler.run_once()
    batched.clock.advance(1)
    batched.step()
    assert recorder.rows == [2, 1]
    assert error(large) == (ResourceExhausted, EXPIRED)
    assert values(other) == [[3.0]]


def test_parts_whose_outputs_differ_in_shape_are_an_internal_error():
    batched = splitting(Recorder(), pad_variable_length_inputs=True)
    large = batched.send(np.ones((3, 1)))
    wide = batched.send(np.ones((1, 2)))
    batched.step()
    assert error(large)[0] is Internal
    assert error(large)[1].startswith("Tensor concat operation failed: ")
    assert values(wide) == [[[2.5, 2.5]]]
