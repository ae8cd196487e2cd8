"""The monitor remembers the last state of every version, and wakes those who wait for one."""

import threading

from waiting import WAIT_SECONDS

from serving.core.errors import InvalidArgument
from serving.core.event_bus import EventBus
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.servable_state_monitor import Reached, ServableStateMonitor
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


def test_a_servable_has_failed_once_all_of_its_versions_have() -> None:
    heard = Heard()
    assert not heard.monitor.has_failed("m")
    heard.say(M1, ManagerState.END, BROKEN)
    heard.say(M2, ManagerState.LOADING)
    assert not heard.monitor.has_failed("m")
    heard.say(M2, ManagerState.END, BROKEN)
    assert heard.monitor.has_failed("m")
    heard.say(M2, ManagerState.AVAILABLE)
    assert not heard.monitor.has_failed("m")


def test_a_failure_from_before_is_none_of_what_begins_anew() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.END, BROKEN)
    since = heard.monitor.now()
    assert not heard.monitor.has_failed("m", since)
    heard.say(M1, ManagerState.START)
    heard.say(M1, ManagerState.END, BROKEN)
    assert heard.monitor.has_failed("m", since)


def test_what_became_available_before_is_not_what_became_available_since() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.AVAILABLE)
    since = heard.monitor.now()
    assert heard.monitor.is_available("m")
    assert not heard.monitor.is_available("m", since)
    heard.say(M2, ManagerState.AVAILABLE)
    assert heard.monitor.is_available("m", since)


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
    waiting.join(WAIT_SECONDS)
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
    waiting.join(WAIT_SECONDS)
    assert results == [False]


def test_only_so_many_ended_versions_are_remembered_the_latest_to_end() -> None:
    bus: EventBus[ServableState] = EventBus()
    monitor = ServableStateMonitor(bus, FakeClock(), max_ended=2)
    for version in (5, 1, 9, 3):
        bus.publish(ServableState(ServableId("m", version), ManagerState.END))
    bus.publish(ServableState(ServableId("m", 4), ManagerState.AVAILABLE))
    assert [state.id.version for state in monitor.versions("m")] == [9, 4, 3]


def test_ended_versions_can_be_forgotten_and_the_living_stay() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.END, BROKEN)
    heard.say(M2, ManagerState.AVAILABLE)
    heard.say(ServableId("gone", 1), ManagerState.END)
    assert heard.monitor.live() == {"m": [ServableState(M2, ManagerState.AVAILABLE)]}
    heard.monitor.forget_ended()
    assert heard.monitor.versions("m") == [ServableState(M2, ManagerState.AVAILABLE)]
    assert heard.monitor.versions("gone") == []


def test_the_log_keeps_the_latest_events_with_their_times() -> None:
    bus: EventBus[ServableState] = EventBus()
    clock = FakeClock(start_seconds=50)
    monitor = ServableStateMonitor(bus, clock, max_logged=2)
    for state in (ManagerState.START, ManagerState.LOADING, ManagerState.AVAILABLE):
        bus.publish(ServableState(M1, state))
        clock.advance(1)
    assert [(time, event.state.name) for time, event in monitor.log()] == [
        (51, "LOADING"),
        (52, "AVAILABLE"),
    ]


def test_without_a_size_nothing_is_logged() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.START)
    assert heard.monitor.log() == []


ANY_M, FIRST_M = ServableRequest("m"), ServableRequest("m", 1)


def test_a_notification_comes_once_when_all_have_reached_the_goal() -> None:
    heard, told = Heard(), []
    other = ServableRequest("n", 1)
    heard.monitor.notify_when_reached([ANY_M, other], ManagerState.AVAILABLE, told.append)
    heard.say(M2, ManagerState.AVAILABLE)
    assert told == []
    heard.say(ServableId("n", 1), ManagerState.AVAILABLE)
    heard.say(M1, ManagerState.AVAILABLE)
    assert told == [Reached(True, {ANY_M: ManagerState.AVAILABLE, other: ManagerState.AVAILABLE})]


def test_ending_instead_of_reaching_the_goal_decides_as_well() -> None:
    heard, told = Heard(), []
    heard.monitor.notify_when_reached([FIRST_M], ManagerState.AVAILABLE, told.append)
    heard.say(M2, ManagerState.AVAILABLE)
    heard.say(M1, ManagerState.END, BROKEN)
    assert told == [Reached(False, {FIRST_M: ManagerState.END})]


def test_what_has_been_reached_already_is_told_at_once() -> None:
    heard, told = Heard(), []
    heard.say(M1, ManagerState.AVAILABLE)
    heard.monitor.notify_when_reached([FIRST_M], ManagerState.AVAILABLE, told.append)
    assert told == [Reached(True, {FIRST_M: ManagerState.AVAILABLE})]


def test_waiting_for_a_state_that_does_not_come_reports_where_each_one_stands() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.LOADING)
    reached = heard.monitor.wait_until_reached(
        [FIRST_M, ServableRequest("x")], ManagerState.AVAILABLE, timeout_seconds=0
    )
    assert reached == Reached(
        False, {FIRST_M: ManagerState.LOADING, ServableRequest("x"): ManagerState.START}
    )


def test_a_notification_about_nothing_comes_at_once() -> None:
    heard, told = Heard(), []
    heard.monitor.notify_when_reached([], ManagerState.AVAILABLE, told.append)
    assert told == [Reached(True, {})]


def test_any_version_that_fails_decides_where_none_is_named_and_none_is_left() -> None:
    heard, told = Heard(), []
    heard.say(M1, ManagerState.LOADING)
    heard.monitor.notify_when_reached([ANY_M], ManagerState.AVAILABLE, told.append)
    assert told == []
    heard.say(M1, ManagerState.END, BROKEN)
    assert told == [Reached(False, {ANY_M: ManagerState.END})]


def test_any_goal_can_be_waited_for() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.UNLOADING)
    reached = heard.monitor.wait_until_reached([FIRST_M], ManagerState.UNLOADING)
    assert reached == Reached(True, {FIRST_M: ManagerState.UNLOADING})


def test_a_version_that_lives_again_counts_by_its_new_life() -> None:
    heard = Heard()
    heard.say(M1, ManagerState.END, BROKEN)
    heard.say(M1, ManagerState.START)
    assert heard.monitor.live() == {"m": [ServableState(M1, ManagerState.START)]}
