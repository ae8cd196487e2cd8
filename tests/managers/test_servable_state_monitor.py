"""The monitor remembers the last state of every version, and wakes those who wait for one."""

import threading

from serving.core.errors import InvalidArgument
from serving.core.event_bus import EventBus
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.servable_state_monitor import ServableStateMonitor
from serving.testing import FakeClock

M1, M2 = ServableId("m", 1), ServableId("m", 2)
BROKEN = InvalidArgument("broken")


class Heard:
    def __init__(self) -> None:
        self.bus: EventBus[ServableState] = EventBus()
        self.clock = FakeClock()
        self.monitor = ServableStateMonitor(self.bus, self.clock)

    def say(
        self, servable_id: ServableId, state: ManagerState, error: InvalidArgument | None = None
    ) -> None:
        self.bus.publish(ServableState(servable_id, state, error))


def test_the_last_state_counts_and_versions_come_highest_first() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.START)
    heard.say(M2, ManagerState.START)
    heard.say(M1, ManagerState.LOADING)
    assert [(state.id.version, state.state.name) for state in heard.monitor.versions("m")] == [
        (2, "START"),
        (1, "LOADING"),
    ]
    assert heard.monitor.state(M1) == ServableState(M1, ManagerState.LOADING)
    assert heard.monitor.state(ServableId("m", 9)) is None
    assert heard.monitor.versions("unknown") == []


def test_what_ended_is_remembered_with_its_error() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.END, BROKEN)
    assert heard.monitor.versions("m") == [ServableState(M1, ManagerState.END, BROKEN)]


def test_after_closing_nothing_more_is_heard() -> None:
    heard = Heard()
    heard.monitor.close()
    heard.say(M1, ManagerState.START)
    assert heard.monitor.versions("m") == []


def test_a_servable_is_settled_once_one_version_is_available_or_all_have_failed() -> None:
    heard = Heard()
    assert not heard.monitor.is_settled("m")
    heard.say(M1, ManagerState.END, BROKEN)
    heard.say(M2, ManagerState.LOADING)
    assert not heard.monitor.is_settled("m")
    heard.say(M2, ManagerState.END, BROKEN)
    assert heard.monitor.is_settled("m")
    heard.say(M2, ManagerState.AVAILABLE)
    assert heard.monitor.is_settled("m")
    assert heard.monitor.is_available("m")


def test_a_failure_from_before_does_not_settle_what_begins_anew() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.END, BROKEN)
    since = heard.monitor.now()
    assert not heard.monitor.is_settled("m", since)
    heard.say(M1, ManagerState.START)
    heard.say(M1, ManagerState.END, BROKEN)
    assert heard.monitor.is_settled("m", since)


def test_waiting_ends_with_the_event_that_fulfils_the_condition() -> None:
    heard = Heard()
    results: list[bool] = []

    def wait() -> None:
        results.append(heard.monitor.wait_until(lambda: heard.monitor.is_available("m"), None))

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    heard.clock.await_waiters()
    heard.say(M1, ManagerState.LOADING)
    heard.say(M1, ManagerState.AVAILABLE)
    waiting.join(10)
    assert results == [True]


def test_waiting_gives_up_when_the_time_is_over() -> None:
    heard = Heard()
    results: list[bool] = []

    def wait() -> None:
        results.append(heard.monitor.wait_until(lambda: False, 5))

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    heard.clock.await_waiters()
    heard.clock.advance(5)
    waiting.join(10)
    assert results == [False]
