"""Models and servables that tell the call they are asked for."""

import threading

import numpy as np
import pytest

from serving.batching.direct_servable import DirectServable
from serving.core.call_observer import CallObserver
from serving.core.errors import NotFound
from serving.core.models import ModelSpec
from serving.core.observed_call import CURRENT_CALL, Arrival, Protocols, working_for
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.observability.observed_models import ObservedModels, ObservedServable
from serving.testing import FakeClock, FakeServable, InlineExecutor

HANDLE = ServableHandle(ServableId("m", 7), FakeServable(), lambda handle: None)


class Lending:
    """A Models that lends on this thread, or on another as if a load had ended."""

    def __init__(self, outcome, clock, load_seconds=None):
        self._outcome = outcome
        self._clock = clock
        self._load_seconds = load_seconds

    def lease(self, spec, deadline, leased):
        if self._load_seconds is None:
            leased(self._outcome)
            return
        self._clock.advance(self._load_seconds)
        thread = threading.Thread(target=leased, args=[self._outcome])
        thread.start()
        thread.join()


@pytest.fixture
def clock():
    return FakeClock(1000)


@pytest.fixture
def call(clock):
    observer = CallObserver([], clock, returns_request_ids=True)
    return observer.begin(Arrival(Protocols.GRPC, "p.S/M", ""), ())


def lease(models, spec=None):
    """The outcome, and the call that its receiver works for."""
    heard = []
    models.lease(
        spec or ModelSpec("m"), None, lambda outcome: heard.append((outcome, CURRENT_CALL.get()))
    )
    (told,) = heard
    return told


def test_a_lease_tells_the_call_which_version_answers(call, clock):
    clock.advance(1)
    with working_for(call):
        assert lease(ObservedModels(Lending(HANDLE, clock))) == (HANDLE, call)

    assert (call.model_name, call.version) == ("m", 7)
    assert (call.lease_began, call.lease_ended) == (1001, None)


def test_a_lease_that_a_load_ends_is_for_the_call_on_the_loads_thread(call, clock):
    with working_for(call):
        assert lease(ObservedModels(Lending(HANDLE, clock, load_seconds=5))) == (HANDLE, call)

    assert (call.lease_began, call.lease_ended) == (1000, 1005)


def test_a_lease_that_fails_leaves_what_was_asked_for(call, clock):
    error = NotFound("gone")
    with working_for(call):
        lease(ObservedModels(Lending(error, clock)), ModelSpec("m", 3))

    assert (call.model_name, call.version) == ("m", 3)


def test_work_for_no_call_is_passed_on(clock):
    assert lease(ObservedModels(Lending(HANDLE, clock))) == (HANDLE, None)


def test_a_run_tells_its_rows_and_moments(call, clock):
    def compute(feeds):
        clock.advance(2)
        return {"y:0": feeds["x:0"]}

    direct = DirectServable(FakeServable(compute), InlineExecutor(), clock)
    heard = []
    clock.advance(1)
    with working_for(call):
        ObservedServable(direct).run(
            {"x:0": np.zeros(3, np.float32)},
            ["y:0"],
            RunOptions(),
            lambda result: heard.append((result, CURRENT_CALL.get())),
        )

    assert [len(outputs[0]) for outputs, _ in heard] == [3]
    assert [told for _, told in heard] == [call]
    assert (call.rows, call.queued, call.run_began, call.run_ended) == (3, 1001, 1001, 1003)


def test_a_run_for_no_call_is_passed_on_with_its_options(clock):
    seen = []

    class Recording(FakeServable):
        def run(self, feeds, fetches, options, done):
            seen.append(options)

    options = RunOptions()
    ObservedServable(Recording()).run({}, [], options, seen.append)

    assert seen[0] is options
