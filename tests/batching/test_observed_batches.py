"""What the calls of a batch learn of it."""

import numpy as np
import pytest

from serving.batching.batch_runs import BatchRuns
from serving.batching.batching_options import BatchingOptions
from serving.batching.batching_task import BatchingTask
from serving.batching.run_times import RunTimes
from serving.core.call_observer import CallObserver
from serving.core.observed_call import Arrival, Protocols
from serving.core.servable import RunOptions
from serving.testing import FakeClock, FakeServable


@pytest.fixture
def clock():
    return FakeClock(1000)


def new_call(clock):
    observer = CallObserver([], clock, returns_request_ids=True)
    return observer.begin(Arrival(Protocols.GRPC, "p.S/M", ""), ())


def task(rows, call, done=lambda result: None):
    feeds = {"x:0": np.zeros(rows, np.float32)}
    return BatchingTask(feeds, ["y:0"], rows, RunOptions(call=call), done)


def test_each_call_learns_when_its_batch_began_and_with_how_many_it_ran(clock):
    seen = []

    class Recording(FakeServable):
        def run(self, feeds, fetches, options, done):
            seen.append(options.call)
            super().run(feeds, fetches, options, done)

    first, second = new_call(clock), new_call(clock)
    clock.advance(3)
    runs = BatchRuns(Recording(), ["y:0"], BatchingOptions(), RunTimes(), clock)
    runs.process([task(2, first), task(5, None), task(1, second)])

    for call in (first, second):
        assert (call.run_began, call.batch_requests, call.batch_rows) == (1003, 3, 8)
    assert seen == [None]  # the run is no single call's


def test_the_log_line_of_a_batch_that_fails_names_its_calls(clock, caplog):
    def compute(feeds):
        raise RuntimeError("a defect")

    call = new_call(clock)
    runs = BatchRuns(FakeServable(compute), ["y:0"], BatchingOptions(), RunTimes(), clock)
    runs.process([task(1, call), task(1, None)])

    (record,) = [record for record in caplog.records if "failed" in record.message]
    assert record.calls == [call]
