"""Look-ups find what is available, and a lease holds a version in place."""

import threading

import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import NotFound
from serving.core.servable_id import ServableId, ServableRequest
from serving.managers.serving_map import ServingMap
from serving.testing import FakeServable

M1, M2 = ServableId("m", 1), ServableId("m", 2)


def test_the_highest_version_is_found_without_a_version() -> None:
    served = ServingMap()
    for servable_id in (M2, M1):
        served.insert(servable_id, FakeServable())
    assert served.servable(ServableRequest("m")).id == M2
    assert served.servable(ServableRequest("m", 1)).id == M1
    assert served.available() == [M1, M2]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ServableRequest("m", 7), "Servable not found for request: Specific(m, 7)"),
        (ServableRequest("n"), "Servable not found for request: Latest(n)"),
    ],
)
def test_what_is_not_there_is_not_found_in_words_that_clients_know(
    request_: ServableRequest, text: str
) -> None:
    served = ServingMap()
    served.insert(M1, FakeServable())
    with pytest.raises(NotFound) as raised:
        served.servable(request_)
    assert raised.value.message == text


def test_removing_the_highest_version_leaves_the_next() -> None:
    served = ServingMap()
    served.insert(M1, FakeServable())
    served.insert(M2, FakeServable())
    served.remove(M2, lambda: None)
    assert served.servable(ServableRequest("m")).id == M1
    served.remove(M1, lambda: None)
    assert served.available() == []
    with pytest.raises(NotFound):
        served.servable(ServableRequest("m"))


def test_a_removed_version_is_drained_when_its_last_lease_comes_back_and_only_once() -> None:
    served, drained = ServingMap(), []
    served.insert(M1, FakeServable())
    first, second = (served.servable(ServableRequest("m")) for _ in range(2))
    served.remove(M1, lambda: drained.append("m"))
    first.release()
    first.release()
    assert drained == []
    second.release()
    second.release()
    assert drained == ["m"]


def test_leases_on_one_version_do_not_hold_up_another() -> None:
    served, drained = ServingMap(), []
    other = ServableId("other", 1)
    served.insert(M1, FakeServable())
    served.insert(other, FakeServable())
    held = served.servable(ServableRequest("m"))
    served.remove(other, lambda: drained.append("other"))
    assert drained == ["other"]
    held.release()


def test_no_lease_outlives_the_drain_when_readers_race_a_writer() -> None:
    """Threads look up without pause while versions are swapped; a drained version is never held."""
    served, stop = ServingMap(), threading.Event()
    wrong: list[str] = []
    served.insert(M1, FakeServable())

    def read() -> None:
        while not stop.is_set():
            with served.servable(ServableRequest("m")) as handle:
                if handle.servable.closed:  # type: ignore[attr-defined]  # a FakeServable
                    wrong.append(str(handle.id))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for version in range(2, 400):
        served.insert(ServableId("m", version), FakeServable())
        drained = threading.Event()
        with served.servable(ServableRequest("m", version - 1)) as handle:
            leaving = handle.servable
        served.remove(ServableId("m", version - 1), drained.set)
        assert drained.wait(WAIT_SECONDS)
        leaving.close()
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_version_is_in_use_while_somebody_holds_it() -> None:
    served = ServingMap()
    served.insert(M1, FakeServable())
    assert not served.in_use(M1)
    with served.servable(ServableRequest("m")):
        assert served.in_use(M1)
    assert not served.in_use(M1)
    assert not served.in_use(ServableId("m", 7))
