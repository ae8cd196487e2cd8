"""Whatever is put around a servable, what it can do beyond running its signatures stays there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from serving.batching.batching_options import BatchingOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.direct_servable import DirectServable
from serving.batching.queued_runs import QueuedRuns
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.graph_session import NodesRun, graph_session_of
from serving.core.servable import (
    Servable,
    input_buffers_of,
    instances_of,
    max_runs_of,
    may_run_long,
)
from serving.core.servable_id import ServableId
from serving.core.servable_wrapper import ServableWrapper
from serving.loaders.guarded_platform import GuardedServable
from serving.loaders.instances import InstancesServable
from serving.metrics.registry import Metrics
from serving.monitoring.run_metrics import RunMetrics
from serving.observability.observed_models import ObservedServable
from serving.testing import FakeClock, FakeServable, InlineExecutor

M1 = ServableId("m", 1)


class Session:
    def run_nodes(self, feeds, fetches, targets, options) -> NodesRun:
        return NodesRun([], b"")


class Capable(FakeServable):
    """Can do all that there is."""

    max_runs = 3
    graph_session = Session()

    def input_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        return np.zeros(shape, dtype)


def batching(servable: Servable) -> Servable:
    scheduler = SharedBatchScheduler(SchedulerOptions(1), FakeClock())
    return BatchingServable(servable, servable, scheduler, BatchingOptions(), FakeClock())


def measured(servable: Servable) -> Servable:
    return RunMetrics(Metrics()).measured(servable, M1, "tensorflow")


WRAPPERS: dict[str, Callable[[Servable], Servable]] = {
    "DirectServable": lambda servable: DirectServable(servable, InlineExecutor(), FakeClock()),
    "QueuedRuns": lambda servable: QueuedRuns(servable, 1),
    "BatchingServable": batching,
    "GuardedServable": lambda servable: GuardedServable(M1, servable),
    "ObservedServable": ObservedServable,
    "_MeasuredServable": measured,
}


def all_around(servable: Servable) -> Servable:
    for wrap in WRAPPERS.values():
        servable = wrap(servable)
    return servable


def test_each_wrapper_there_is_is_looked_at():
    assert {each.__name__ for each in ServableWrapper.__subclasses__()} == set(WRAPPERS)


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), all_around])
def test_what_a_servable_can_do_is_found_behind_what_is_around_it(wrap):
    inner = Capable()
    outer = wrap(inner)
    assert instances_of(outer) == (inner,)
    assert graph_session_of(outer) is inner.graph_session
    assert input_buffers_of(outer) == inner.input_buffer
    assert max_runs_of(outer) == 3
    assert outer.signatures is inner.signatures
    outer.close()
    assert inner.closed


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), all_around])
def test_so_it_is_of_several_instances(wrap):
    instances = [Capable(), Capable()]
    outer = wrap(InstancesServable([ObservedServable(instances[0]), instances[1]]))
    assert instances_of(outer) == instances
    assert graph_session_of(outer) is instances[0].graph_session
    assert input_buffers_of(outer) == instances[0].input_buffer
    assert max_runs_of(outer) == 6


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), all_around])
def test_what_it_can_not_do_is_not_found(wrap):
    outer = wrap(FakeServable())
    assert graph_session_of(outer) is None
    assert input_buffers_of(outer) is np.empty
    assert max_runs_of(outer) is None


class Silent(FakeServable):
    @property
    def may_run_long(self):
        raise AttributeError


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), all_around])
def test_a_servable_that_says_nothing_of_it_may_run_long(wrap):
    assert may_run_long(wrap(Silent()))
    assert not may_run_long(wrap(FakeServable()))
