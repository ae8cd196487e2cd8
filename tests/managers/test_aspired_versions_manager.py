"""What is loaded follows what is aspired to, round by round, with everything in this thread."""

from collections.abc import Sequence

import pytest

from serving.core.errors import InvalidArgument, NotFound, ServingError
from serving.core.event_bus import EventBus
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ServableState
from serving.managers.aspired_versions_manager import AspiredVersionsManager
from serving.managers.loader_harness import RetryPolicy
from serving.managers.policies import AspiredVersionPolicy, resource_preserving
from serving.testing import FakeClock, FakeLoader, inline

BROKEN = InvalidArgument("broken")


class House:
    """A manager, its announcements, and shorthands to aspire and look."""

    def __init__(self, policy: AspiredVersionPolicy | None = None) -> None:
        self.events: list[str] = []
        bus: EventBus[ServableState] = EventBus()
        bus.subscribe(lambda event: self.events.append(f"{event.id.version} {event.state.name}"))
        choice = {"policy": policy} if policy else {}
        self.manager = AspiredVersionsManager(
            bus=bus,
            clock=FakeClock(),
            retry=RetryPolicy(max_retries=0),
            make_executor=inline,
            **choice,
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
