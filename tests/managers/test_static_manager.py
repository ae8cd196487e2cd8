"""A fixed set of servables."""

import pytest

from serving.core.errors import InvalidArgument, NotFound
from serving.core.servable_id import ServableId, ServableRequest
from serving.managers.static_manager import StaticManager
from serving.testing import FakeServable

M1, M2, N1 = ServableId("m", 1), ServableId("m", 2), ServableId("n", 1)


def test_what_it_was_made_with_is_available_by_version_and_latest() -> None:
    servables = {servable_id: FakeServable() for servable_id in (M1, M2, N1)}
    manager = StaticManager(servables)
    assert manager.available() == [M1, M2, N1]
    with manager.servable(ServableRequest("m")) as latest:
        assert latest.servable is servables[M2]
    with manager.servable(ServableRequest("m", 1)) as first:
        assert first.servable is servables[M1]


@pytest.mark.parametrize("request_", [ServableRequest("m", 3), ServableRequest("x")])
def test_what_is_not_there_is_not_found(request_: ServableRequest) -> None:
    with pytest.raises(NotFound, match="Servable not found"):
        StaticManager({M1: FakeServable()}).servable(request_)


def test_a_servable_needs_a_name() -> None:
    with pytest.raises(InvalidArgument, match="needs a name"):
        StaticManager({ServableId("", 1): FakeServable()})


def test_after_closing_each_is_closed_once_nobody_holds_it() -> None:
    held, free = FakeServable(), FakeServable()
    manager = StaticManager({M1: held, N1: free})
    handle = manager.servable(ServableRequest("m"))
    manager.close()
    assert (held.closed, free.closed) == (False, True)
    assert manager.available() == []
    handle.release()
    assert held.closed
