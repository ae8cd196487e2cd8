"""Which versions leave, decided from what waits and what is held."""

from collections.abc import Iterator

import pytest

from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId
from serving.managers.making_room import Plan, Share, make_room

ram = ResourceAllocation.ram


def shares(**sizes: int) -> list[Share]:
    return [Share(ServableId(name, 1), ram(size)) for name, size in sizes.items()]


@pytest.mark.parametrize(
    ("waiting", "held", "load", "unload"),
    [
        pytest.param({"a": 20}, {"x": 50}, "a", "", id="what fits disturbs nobody"),
        pytest.param({"a": 60}, {"x": 30, "y": 30}, "", "x", id="the first leaves"),
        pytest.param({"a": 90}, {"x": 30, "y": 30}, "", "xy", id="as many as it takes"),
        pytest.param({"a": 101}, {"x": 60}, "a", "", id="what never fits is left to its load"),
        pytest.param({"a": 60, "b": 20}, {"x": 60}, "b", "x", id="fits beside the first"),
        pytest.param({"a": 60, "b": 40}, {"x": 60}, "b", "x", id="fits now and after"),
        pytest.param({"a": 80, "b": 40}, {"x": 60}, "", "x", id="not at the cost of the first"),
    ],
)
def test_who_waits_is_served_in_order(
    waiting: dict[str, int], held: dict[str, int], load: str, unload: str
) -> None:
    plan = make_room(
        shares(**waiting),
        used=ram(sum(held.values())),
        leaving=ResourceAllocation(),
        limit=ram(100),
        candidates=lambda: shares(**held),
    )
    assert "".join(chosen.name for chosen in plan.load) == load
    assert "".join(chosen.name for chosen in plan.unload) == unload


def test_what_is_leaving_already_counts() -> None:
    plan = make_room(
        shares(a=60),
        used=ram(70),
        leaving=ram(30),
        limit=ram(100),
        candidates=lambda: shares(x=40),
    )
    assert plan == Plan([], [])


def test_nothing_leaves_in_vain() -> None:
    """Of what is used, all but x is still being loaded and can not leave."""
    plan = make_room(
        shares(a=90),
        used=ram(60),
        leaving=ResourceAllocation(),
        limit=ram(100),
        candidates=lambda: shares(x=30),
    )
    assert plan == Plan([], [])


def test_who_may_leave_is_asked_only_when_something_does_not_fit() -> None:
    plan = make_room(
        shares(a=100),
        used=ResourceAllocation(),
        leaving=ResourceAllocation(),
        limit=ram(100),
        candidates=lambda: pytest.fail("nobody need leave"),
    )
    assert [chosen.name for chosen in plan.load] == ["a"]


def test_who_may_leave_is_asked_no_further_than_it_takes() -> None:
    asked: list[str] = []

    def candidates() -> Iterator[Share]:
        for share in shares(v=20, w=20, x=20, y=20, z=20):
            asked.append(share.id.name)
            yield share

    plan = make_room(
        shares(a=30, b=10),
        used=ram(100),
        leaving=ResourceAllocation(),
        limit=ram(100),
        candidates=candidates,
    )
    assert [chosen.name for chosen in plan.unload] == asked == ["v", "w"]


def test_what_holds_nothing_that_is_scarce_stays() -> None:
    plan = make_room(
        shares(a=60),
        used=ram(60),
        leaving=ResourceAllocation(),
        limit=ram(100),
        candidates=lambda: [Share(ServableId("free", 1), ResourceAllocation()), *shares(x=60)],
    )
    assert [chosen.name for chosen in plan.unload] == ["x"]
