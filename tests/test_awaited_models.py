"""How long a start or a reload waits for models of which nothing is heard."""

from __future__ import annotations

import threading

import pytest
from waiting import WAIT_SECONDS

from serving.awaited_models import AwaitedModels
from serving.core.errors import DeadlineExceeded, InvalidArgument, ServingError, Unavailable
from serving.core.event_bus import EventBus
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.servable_state_monitor import ServableStateMonitor
from serving.testing import FakeClock

INCOMPLETE = Unavailable("No version of servable m is complete yet")
SILENT = DeadlineExceeded("Servable m: its base path does not answer")


class Waiting:
    """One who waits for the model m, which has a problem."""

    def __init__(self, problem: ServingError) -> None:
        self.clock = FakeClock()
        self.bus: EventBus[ServableState] = EventBus()
        self.ended = threading.Event()
        monitor = ServableStateMonitor(self.bus, self.clock)
        self.models = AwaitedModels(
            ["m"],
            0,
            monitor=monitor,
            is_served=lambda name: False,
            problems=lambda: {"m": problem},
            is_configured=lambda name: True,
            clock=self.clock,
        )


@pytest.mark.parametrize(("problem", "seconds"), [(INCOMPLETE, 30), (SILENT, 10)])
def test_patience_lasts_so_long_even_where_nothing_happens_meanwhile(
    problem: ServingError, seconds: int
) -> None:
    waiting = Waiting(problem)
    waiting.models.when_ended(waiting.ended.set)
    waiting.clock.await_waiters()
    waiting.clock.advance(seconds - 1)
    waiting.clock.await_waiters()
    assert not waiting.models.has_ended()
    assert not waiting.ended.is_set()
    waiting.clock.advance(1)
    assert waiting.ended.wait(WAIT_SECONDS)
    assert waiting.models.lost() == {"m": problem}


def test_for_another_problem_nobody_waits() -> None:
    waiting = Waiting(InvalidArgument("Could not find base path"))
    waiting.models.when_ended(waiting.ended.set)
    assert waiting.ended.is_set()


def test_the_wait_ends_with_the_version_that_becomes_available() -> None:
    waiting = Waiting(INCOMPLETE)
    waiting.models.when_ended(waiting.ended.set)
    assert not waiting.ended.is_set()
    waiting.bus.publish(ServableState(ServableId("m", 1), ManagerState.AVAILABLE))
    assert waiting.ended.is_set()
    assert waiting.models.lost() == {}
