"""What is loaded follows what is aspired to, round by round, with everything in this thread."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import pytest
from waiting import WAIT_SECONDS

from serving.core.clock import Clock, SystemClock
from serving.core.errors import InvalidArgument, NotFound, ServingError
from serving.core.event_bus import EventBus
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ServableState
from serving.managers.aspired_versions_manager import AspiredVersionsManager
from serving.managers.loader_harness import RetryPolicy
from serving.managers.policies import (
    Action,
    AspiredVersionPolicy,
    Verb,
    VersionSnapshot,
    availability_preserving,
    resource_preserving,
)
from serving.managers.work_threads import SECONDS_UNTIL_OVERDUE, ExecutorFactory, WorkThreads
from serving.testing import FakeClock, FakeLoader, inline

BROKEN = InvalidArgument("broken")


class House:
    """A manager, its announcements, and shorthands to aspire and look."""

    def __init__(
        self,
        policy: AspiredVersionPolicy = availability_preserving,
        make_executor: ExecutorFactory = inline,
        num_load_threads: int = 0,
        max_retries: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.events: list[str] = []
        self.errors: list[ServingError] = []
        self._heard = threading.Condition()
        bus: EventBus[ServableState] = EventBus()
        bus.subscribe(self._hear)
        self.bus = bus
        self.clock = FakeClock()
        self.manager = AspiredVersionsManager(
            bus=bus,
            clock=clock or self.clock,
            retry=RetryPolicy(max_retries, 60 if clock is None else 0.001),
            policy=policy,
            make_executor=make_executor,
            num_load_threads=num_load_threads,
        )

    def aspire(self, *versions: int, name: str = "m", failing: Sequence[int] = ()) -> None:
        """Aspire to these versions and do one round."""
        payloads: dict[int, FakeLoader | ServingError] = {
            version: FakeLoader(failures=[BROKEN] if version in failing else [])
            for version in versions
        }
        self.manager.aspired_versions(
            name,
            [ServableData(ServableId(name, version), payloads[version]) for version in versions],
        )
        self.manager.tick()

    def offer(self, servable_id: ServableId, loader: FakeLoader) -> None:
        """Aspire to this one version of its name and do one round."""
        self.manager.aspired_versions(servable_id.name, [ServableData(servable_id, loader)])
        self.manager.tick()

    def await_event(self, event: str) -> None:
        """Return once this was announced, by whatever thread."""
        with self._heard:
            assert self._heard.wait_for(lambda: event in self.events, WAIT_SECONDS), self.events

    def await_rounds(self, condition: Callable[[], bool]) -> None:
        """Do rounds until the condition holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.events
            self.manager.tick()

    def _hear(self, event: ServableState) -> None:
        with self._heard:
            self.events.append(f"{event.id.version} {event.state.name}")
            if event.error:
                self.errors.append(event.error)
            self._heard.notify_all()

    @property
    def available(self) -> list[int]:
        return [servable_id.version for servable_id in self.manager.available()]


def test_what_is_aspired_to_is_loaded_highest_first() -> None:
    house = House()
    house.aspire(1, 3, 2)
    assert house.available == [1, 2, 3]
    assert [event for event in house.events if "LOADING" in event] == [
        "3 LOADING",
        "2 LOADING",
        "1 LOADING",
    ]


def test_aspiring_again_to_the_same_changes_nothing() -> None:
    house = House()
    house.aspire(1)
    events = list(house.events)
    house.aspire(1)
    assert house.events == events


def test_a_new_version_is_available_before_the_old_one_goes() -> None:
    house = House()
    house.aspire(1)
    house.events.clear()
    house.aspire(2)
    assert house.available == [2]
    assert house.events.index("2 AVAILABLE") < house.events.index("1 UNLOADING")


def test_resource_preserving_frees_the_old_version_first() -> None:
    house = House(resource_preserving)
    house.aspire(1)
    house.events.clear()
    house.aspire(2)
    house.manager.tick()
    assert house.available == [2]
    assert house.events.index("1 END") < house.events.index("2 LOADING")


def test_a_broken_version_leaves_the_old_one_serving_and_is_not_tried_every_round() -> None:
    house = House()
    house.aspire(1)
    house.aspire(2, failing=[2])
    house.aspire(2, failing=[2])
    assert house.available == [1]
    assert house.events.count("2 END") == 1


def test_going_back_to_the_version_still_in_memory_keeps_it_without_a_gap() -> None:
    """The roll-back: version 2 turns out broken, and is taken away again."""
    house = House()
    house.aspire(1)
    house.aspire(2, failing=[2])
    house.aspire(1)
    house.manager.tick()
    assert house.available == [1]
    assert "1 UNLOADING" not in house.events


def test_what_is_about_to_be_taken_away_is_served_no_longer() -> None:
    house = House()
    house.aspire(1)
    assert house.manager.serves("m")
    house.manager.aspired_versions("m", [ServableData(ServableId("m", 2), FakeLoader())])
    assert not house.manager.serves("m")
    house.manager.tick()
    assert house.manager.serves("m")
    house.aspire(3, failing=[3])
    assert house.available == [2]
    assert not house.manager.serves("m")


def test_an_empty_list_unloads_everything_of_that_name_only() -> None:
    house = House()
    house.aspire(1, 2)
    house.aspire(5, name="other")
    house.aspire()
    assert house.available == [5]


def test_what_failed_is_loaded_anew_once_it_was_taken_away_and_came_back() -> None:
    house = House()
    house.aspire(1, failing=[1])
    house.aspire()
    house.manager.tick()
    house.aspire(1)
    assert house.available == [1]


def test_a_version_that_comes_back_while_it_leaves_waits_for_its_former_life_to_end() -> None:
    house = House()
    house.aspire(1)
    with house.manager.servable(ServableRequest("m")):
        house.aspire()
        house.aspire(1)
        assert house.available == []
    house.manager.tick()
    house.manager.tick()
    assert house.available == [1]
    assert house.events[-4:] == ["1 END", "1 START", "1 LOADING", "1 AVAILABLE"]


def test_a_version_that_arrives_with_an_error_shows_it_and_hurts_no_other() -> None:
    house = House()
    house.manager.aspired_versions(
        "m",
        [
            ServableData(ServableId("m", 1), FakeLoader()),
            ServableData(ServableId("m", 2), InvalidArgument("unreadable")),
        ],
    )
    house.manager.tick()
    assert house.available == [1]
    assert "2 END" in house.events


def test_a_later_list_replaces_one_that_was_not_yet_applied() -> None:
    house = House()
    house.manager.aspired_versions("m", [ServableData(ServableId("m", 1), FakeLoader())])
    house.aspire(2)
    assert house.available == [2]
    assert not [event for event in house.events if event.startswith("1")]


def test_stopping_unloads_everything() -> None:
    house = House()
    house.aspire(1, 2)
    house.manager.stop()
    assert house.available == []
    with pytest.raises(NotFound):
        house.manager.servable(ServableRequest("m"))


def test_a_failed_version_is_loaded_again_when_its_revision_rises() -> None:
    house = House()

    def offer(loader: FakeLoader, revision: int) -> None:
        house.manager.aspired_versions("m", [ServableData(ServableId("m", 1), loader, revision)])
        house.manager.tick()

    offer(FakeLoader(failures=[BROKEN]), 0)
    same = FakeLoader()
    offer(same, 0)
    assert (house.available, same.attempts) == ([], 0)
    offer(FakeLoader(failures=[BROKEN]), 1)
    assert house.events.count("1 END") == 2
    offer(FakeLoader(), 2)
    assert house.available == [1]


def test_a_higher_revision_of_a_version_that_serves_changes_nothing() -> None:
    house = House()
    house.aspire(1)
    again = FakeLoader()
    house.manager.aspired_versions("m", [ServableData(ServableId("m", 1), again, 5)])
    house.manager.tick()
    assert (house.available, again.attempts) == ([1], 0)


def test_a_version_is_not_found_before_the_round_that_loads_it() -> None:
    house = House()
    house.manager.aspired_versions("m", [ServableData(ServableId("m", 0), FakeLoader())])
    with pytest.raises(NotFound):
        house.manager.servable(ServableRequest("m", 0))
    house.manager.tick()
    assert house.manager.servable(ServableRequest("m")).id == ServableId("m", 0)


def test_of_several_versions_those_still_wanted_stay() -> None:
    house = House()
    house.aspire(1, 2)
    house.aspire(1)
    assert house.available == [1]
    with pytest.raises(NotFound):
        house.manager.servable(ServableRequest("m", 2))


def test_a_lower_version_can_take_over_from_a_higher_one() -> None:
    house = House()
    house.aspire(2)
    house.events.clear()
    house.aspire(1)
    assert house.available == [1]
    assert house.events.index("1 AVAILABLE") < house.events.index("2 UNLOADING")


def test_of_several_old_versions_one_stays_until_a_new_one_is_ready() -> None:
    house = House()
    house.aspire(1, 2)
    house.aspire(7, failing=[7])
    assert house.available == [2]
    house.aspire(8)
    assert house.available == [8]


def test_unloads_of_one_servable_come_before_loads_of_another() -> None:
    house = House()
    house.aspire(0, 1)
    house.aspire(0, 1, name="other")
    house.events.clear()
    house.manager.aspired_versions(
        "other", [ServableData(ServableId("other", each), FakeLoader()) for each in (0, 1, 2)]
    )
    house.aspire(1)
    assert house.events.index("0 UNLOADING") < house.events.index("2 LOADING")


def test_the_error_that_a_version_arrives_with_is_its_state() -> None:
    house = House()
    house.aspire(1, failing=[1])
    assert house.manager.available() == []
    assert house.errors == [BROKEN]


def test_a_version_that_waits_to_load_is_forgotten_once_nobody_wants_it() -> None:
    """Version 2 never loads, because version 1 is held: its end must not wait for that."""
    house = House(resource_preserving)
    house.aspire(1)
    with house.manager.servable(ServableRequest("m")):
        house.aspire(2)
        assert "2 START" in house.events
        assert "2 LOADING" not in house.events
        house.aspire()
        assert house.events[-1] == "2 END"
        house.aspire(2)
    house.manager.tick()
    assert house.available == [2]


def test_a_policy_sees_every_version_of_one_servable_and_no_other() -> None:
    seen: list[list[tuple[str, str, bool]]] = []

    def watch(versions: Sequence[VersionSnapshot]) -> None:
        seen.append([(each.id.name, each.state.value, each.is_aspired) for each in versions])

    house = House(watch)
    house.aspire(1, 2)
    house.aspire(9, name="other")
    assert seen == [
        [("m", "new", True), ("m", "new", True)],
        [("other", "new", True)],
    ]


def test_a_version_that_goes_and_comes_back_within_one_round_was_never_gone() -> None:
    house = House()
    house.aspire(1)
    events = list(house.events)
    again = FakeLoader()
    house.manager.aspired_versions("m", [])
    house.manager.aspired_versions("m", [ServableData(ServableId("m", 1), again)])
    house.manager.tick()
    assert (house.events, again.attempts) == (events, 0)


def test_a_version_that_comes_goes_and_comes_back_within_two_rounds_is_served() -> None:
    house = House()
    for _ in range(2):
        house.aspire(1)
        house.aspire()
        house.aspire(1)
    house.manager.tick()
    assert house.available == [1]
    assert house.events.count("1 START") - house.events.count("1 END") == 1


@pytest.mark.parametrize("policy", [availability_preserving, resource_preserving])
def test_two_hundred_versions_at_once_are_served_and_replaced(
    policy: AspiredVersionPolicy,
) -> None:
    house = House(policy)
    house.aspire(*range(1, 201), failing=[77])
    assert house.available == [version for version in range(1, 201) if version != 77]
    house.aspire(201)
    house.manager.tick()
    assert house.available == [201]


class Gate:
    """A load that goes on only when it is let."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.loader = FakeLoader(before_load=self._wait)

    def _wait(self) -> None:
        self.begun.set()
        self.go_on.wait(WAIT_SECONDS)


def in_threads(num_load_threads: int = 2) -> House:
    return House(make_executor=WorkThreads, num_load_threads=num_load_threads)


def test_a_load_that_hangs_holds_up_no_other_servable() -> None:
    house, hanging = in_threads(), Gate()
    house.offer(ServableId("hanging", 1), hanging.loader)
    assert hanging.begun.wait(WAIT_SECONDS)
    for version in (1, 2, 3):
        house.offer(ServableId("m", version), FakeLoader())
        house.await_event(f"{version} AVAILABLE")
    with house.manager.servable(ServableRequest("m")) as handle:
        assert handle.id.version == 3
    hanging.go_on.set()
    house.manager.stop()


def test_where_loads_go_one_by_one_a_load_that_hangs_holds_up_others_for_so_long_only() -> None:
    house, hanging = in_threads(num_load_threads=0), Gate()
    house.offer(ServableId("hanging", 1), hanging.loader)
    assert hanging.begun.wait(WAIT_SECONDS)
    house.offer(ServableId("m", 2), FakeLoader())
    house.clock.advance(SECONDS_UNTIL_OVERDUE)
    house.await_event("2 AVAILABLE")
    hanging.go_on.set()
    house.manager.stop()


def test_a_load_that_ends_after_its_version_was_un_aspired_is_undone() -> None:
    house, slow = in_threads(), Gate()
    house.offer(ServableId("m", 1), slow.loader)
    assert slow.begun.wait(WAIT_SECONDS)
    house.aspire()
    slow.go_on.set()
    house.await_event("1 END")
    assert "1 AVAILABLE" not in house.events
    assert [error.code.name for error in house.errors] == ["CANCELLED"]
    assert slow.loader.unloads == 1
    house.manager.stop()


def test_a_version_that_comes_back_while_its_load_is_being_given_up_is_loaded_anew() -> None:
    house, slow = in_threads(), Gate()
    house.offer(ServableId("m", 1), slow.loader)
    assert slow.begun.wait(WAIT_SECONDS)
    house.aspire()
    again = FakeLoader()
    house.offer(ServableId("m", 1), again)
    assert again.attempts == 0
    slow.go_on.set()
    house.await_event("1 END")
    house.await_rounds(lambda: house.available == [1])
    assert (slow.loader.unloads, again.attempts) == (1, 1)
    house.manager.stop()


def hang_version_2(house: House) -> Gate:
    """Version 1 serves, and version 2 is wanted no longer while its load hangs."""
    house.offer(ServableId("m", 1), FakeLoader())
    house.await_event("1 AVAILABLE")
    hanging = Gate()
    house.offer(ServableId("m", 2), hanging.loader)
    assert hanging.begun.wait(WAIT_SECONDS)
    house.aspire(1)
    return hanging


def test_a_version_that_waits_for_its_former_life_to_end_holds_up_no_other() -> None:
    house = in_threads()
    hanging = hang_version_2(house)
    house.aspire(2, 3)
    house.await_event("3 AVAILABLE")
    house.await_rounds(lambda: "1 END" in house.events)
    assert house.available == [3]
    hanging.go_on.set()
    house.await_event("2 END")
    house.await_rounds(lambda: house.available == [2, 3])
    assert house.events.count("3 START") == 1
    house.manager.stop()


def test_what_serves_stays_while_the_one_in_its_place_waits_for_its_former_life_to_end() -> None:
    house = in_threads()
    hanging = hang_version_2(house)
    for _ in range(3):
        house.aspire(2)
        assert house.available == [1]
    hanging.go_on.set()
    house.await_event("2 END")
    house.await_rounds(lambda: house.available == [2])
    assert house.events.index("2 AVAILABLE") < house.events.index("1 UNLOADING")
    house.manager.stop()


def test_a_version_that_waits_for_its_former_life_to_end_is_forgotten_by_a_later_list() -> None:
    house = in_threads()
    hanging = hang_version_2(house)
    house.aspire(2, 3)
    house.aspire(3)
    hanging.go_on.set()
    house.await_event("2 END")
    house.await_rounds(lambda: house.available == [3])
    assert house.events.count("2 START") == 1
    house.manager.stop()


def test_resource_preserving_keeps_what_serves_while_nothing_can_be_loaded_in_its_place() -> None:
    house = House(resource_preserving)
    house.aspire(1, 2)
    with house.manager.servable(ServableRequest("m", 2)):
        house.aspire(1)
        house.aspire(2, 3)
        assert house.available == [1]
        assert "3 LOADING" not in house.events
    house.manager.tick()
    house.manager.tick()
    assert house.available == [2, 3]
    assert house.events.index("1 END") < house.events.index("3 LOADING")


def test_what_fails_for_one_servable_disturbs_no_other_and_is_tried_in_the_next_round() -> None:
    broken = {"bad"}

    def policy(versions: Sequence[VersionSnapshot]) -> Action | None:
        if any(version.id.name in broken for version in versions):
            raise RuntimeError("defect")
        return availability_preserving(versions)

    house = House(policy)
    for name in ("bad", "good", "other"):
        house.manager.aspired_versions(name, [ServableData(ServableId(name, 1), FakeLoader())])
    house.manager.tick()
    assert [each.name for each in house.manager.available()] == ["good", "other"]
    broken.clear()
    house.manager.tick()
    assert [each.name for each in house.manager.available()] == ["bad", "good", "other"]


def test_an_action_that_fails_is_not_tried_again_in_the_same_round() -> None:
    asked: list[str] = []

    def unload_what_is_not_there(versions: Sequence[VersionSnapshot]) -> Action | None:
        asked.append(versions[0].id.name)
        return Action(Verb.UNLOAD, versions[0].id)

    house = House(unload_what_is_not_there)
    house.aspire(1)
    assert asked == ["m"]
    house.manager.tick()
    assert asked == ["m", "m"]


def test_a_list_that_could_not_be_applied_is_applied_in_the_next_round() -> None:
    class Faulty(list[ServableData[FakeLoader]]):
        faults = 1

        def __iter__(self) -> Iterator[ServableData[FakeLoader]]:
            if self.faults:
                self.faults -= 1
                raise RuntimeError("defect")
            return super().__iter__()

    house = House()
    house.manager.aspired_versions("m", Faulty([ServableData(ServableId("m", 1), FakeLoader())]))
    house.manager.tick()
    assert house.available == []
    house.manager.tick()
    assert house.available == [1]


def test_a_revision_that_comes_while_the_failure_is_being_told_is_not_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever hears of the failure may mend the version before the load has quite ended."""
    house = House()
    mended = ServableData(ServableId("m", 1), FakeLoader(), revision=1)

    def mend(event: ServableState) -> None:
        if event.error:
            house.manager.aspired_versions("m", [mended])
            house.manager.tick()

    house.bus.subscribe(mend)
    house.aspire(1, failing=[1])
    house.manager.tick()
    assert house.available == [1]
    assert not caplog.records


def test_a_version_whose_retry_waits_ends_in_the_round_that_no_longer_wants_it() -> None:
    house = House(make_executor=WorkThreads, max_retries=9)
    house.offer(ServableId("m", 1), FakeLoader(failures=[BROKEN] * 9))
    house.offer(ServableId("other", 2), FakeLoader())
    house.await_event("2 AVAILABLE")
    house.aspire()
    assert "1 END" in house.events
    assert [error.code.name for error in house.errors] == ["CANCELLED"]
    house.manager.stop()


_FOLLOWS = {
    "START": {"LOADING", "END"},
    "LOADING": {"AVAILABLE", "END"},
    "AVAILABLE": {"UNLOADING"},
    "UNLOADING": {"END"},
    "END": {"START"},
}


class Counted(FakeLoader):
    """Counts the loads that succeeded."""

    loads = 0

    def load(self, servable_id: ServableId) -> None:
        super().load(servable_id)
        self.loads += 1


class Wishes:
    """Lists for a house, with loaders that take until some lists later."""

    def __init__(self, house: House) -> None:
        self.loaders: list[Counted] = []
        self._house = house
        self._chance = random.Random(7)
        self._gates = deque(threading.Event() for _ in range(4))

    def change(self, revision: int) -> None:
        versions = self._chance.sample(range(1, 5), self._chance.randint(0, 3))
        self.wish(self._chance.choice("abc"), versions, revision, self._chance.choice((0, 0, 1, 2)))

    def wish(self, name: str, versions: Sequence[int], revision: int, failures: int = 0) -> None:
        self._gates.append(threading.Event())
        self._gates.popleft().set()
        wait = partial(self._chance.choice(self._gates).wait, 20)
        wished: list[ServableData[FakeLoader]] = []
        for version in versions:
            loader = Counted(failures=[BROKEN] * failures, before_load=wait)
            self.loaders.append(loader)
            wished.append(ServableData(ServableId(name, version), loader, revision))
        self._house.manager.aspired_versions(name, wished)
        self._house.manager.tick()


@pytest.mark.usefixtures("threads_that_take_turns_often")
@pytest.mark.parametrize("policy", [availability_preserving, resource_preserving])
@pytest.mark.parametrize("num_load_threads", [0, 4])
def test_wishes_that_change_all_the_time_end_in_what_was_wished_last(
    policy: AspiredVersionPolicy, num_load_threads: int
) -> None:
    """Loads fail, wait, are cancelled and undone, while sources repeat what they wish."""
    house = House(policy, WorkThreads, num_load_threads, max_retries=1, clock=SystemClock())
    told: dict[ServableId, list[str]] = {}
    house.bus.subscribe(lambda event: told.setdefault(event.id, []).append(event.state.name))
    wishes = Wishes(house)
    for revision in range(600):
        wishes.change(revision)

    def is_fulfilled() -> bool:
        for name in "abc":
            wishes.wish(name, [2, 3], 600)
        served = house.manager.available()
        return served == [ServableId(name, version) for name in "abc" for version in (2, 3)]

    house.await_rounds(is_fulfilled)
    house.manager.stop()
    assert all(loader.loads == loader.unloads for loader in wishes.loaders)
    for states in told.values():
        assert states[0] == "START"
        assert all(after in _FOLLOWS[before] for before, after in pairwise(states)), states
