"""Reservations never exceed the limit, and wait only while something may still free enough."""

import threading

import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import Cancelled, ResourceExhausted
from serving.core.resources import Resource, ResourceAllocation
from serving.core.servable_id import ServableId
from serving.managers.resource_tracker import ResourceTracker

A, B = ServableId("a", 1), ServableId("b", 1)
ram = ResourceAllocation.ram


def test_without_a_limit_everything_fits() -> None:
    tracker = ResourceTracker()
    tracker.reserve(A, ram(2**60))
    assert tracker.used == ram(2**60)


def test_what_does_not_fit_is_refused_with_what_is_needed_used_and_there() -> None:
    tracker = ResourceTracker(ram(100))
    tracker.reserve(A, ram(60))
    tracker.settle(A, ram(60))
    with pytest.raises(ResourceExhausted) as raised:
        tracker.reserve(B, ram(50))
    assert raised.value.message == (
        "Insufficient resources to load servable {name: b version: 1}: "
        "needs main:0 ram_in_bytes=50; in use main:0 ram_in_bytes=60; limit main:0 ram_in_bytes=100"
    )


def test_a_reservation_waits_for_an_unload_on_its_way() -> None:
    tracker = ResourceTracker(ram(100))
    tracker.reserve(A, ram(60))
    tracker.settle(A, ram(60))
    tracker.begin_unload(A)
    waiting = threading.Thread(target=tracker.reserve, args=(B, ram(50)), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    tracker.release(A)
    waiting.join(WAIT_SECONDS)
    assert tracker.used == ram(50)


def test_what_can_never_fit_is_refused_at_once_whatever_is_in_flight() -> None:
    tracker = ResourceTracker(ram(100))
    tracker.reserve(A, ram(60))
    tracker.begin_unload(A)
    with pytest.raises(ResourceExhausted):
        tracker.reserve(B, ram(101))


def test_a_load_that_turns_out_smaller_makes_room() -> None:
    tracker = ResourceTracker(ram(100))
    tracker.reserve(A, ram(60))
    tracker.settle(A, ram(40))
    tracker.reserve(B, ram(60))
    assert tracker.used == ram(100)


def test_each_device_has_a_limit_of_its_own() -> None:
    first, second = (Resource("ram_in_bytes", "gpu", instance) for instance in (0, 1))
    tracker = ResourceTracker(ResourceAllocation({first: 16, second: 16}))
    tracker.reserve(A, ResourceAllocation({first: 12}))
    tracker.settle(A, ResourceAllocation({first: 12}))
    with pytest.raises(ResourceExhausted, match="gpu:0 ram_in_bytes=16"):
        tracker.reserve(B, ResourceAllocation({first: 5}))
    tracker.reserve(B, ResourceAllocation({second: 16}))
    assert tracker.used == ResourceAllocation({first: 12, second: 16})


def test_what_was_refused_holds_nothing() -> None:
    tracker = ResourceTracker(ram(10))
    with pytest.raises(ResourceExhausted):
        tracker.reserve(A, ram(11))
    assert tracker.used == ResourceAllocation()


def test_a_version_is_never_counted_twice() -> None:
    tracker = ResourceTracker(ram(10))
    tracker.reserve(A, ram(8))
    tracker.settle(A, ram(6))
    assert tracker.used == ram(6)
    tracker.release(A)
    tracker.release(A)
    assert tracker.used == ResourceAllocation()


def test_a_reservation_that_waits_ends_when_it_is_cancelled() -> None:
    tracker = ResourceTracker(ram(10))
    tracker.reserve(A, ram(10))
    asked, cancelled, ended = threading.Event(), threading.Event(), threading.Event()

    def is_cancelled() -> bool:
        asked.set()
        return cancelled.is_set()

    def reserve() -> None:
        with pytest.raises(Cancelled):
            tracker.reserve(B, ram(5), is_cancelled)
        ended.set()

    threading.Thread(target=reserve, daemon=True).start()
    assert asked.wait(WAIT_SECONDS)
    cancelled.set()
    tracker.look_again()
    assert ended.wait(WAIT_SECONDS)
    assert tracker.used == ram(10)


def test_what_was_claimed_is_not_asked_for_twice() -> None:
    tracker = ResourceTracker(ram(100))
    tracker.claim(A, ram(60))
    tracker.reserve(A, ram(70))
    assert (tracker.used, tracker.held_by(A)) == (ram(70), ram(70))


def test_what_is_on_its_way_out_is_known() -> None:
    tracker = ResourceTracker(ram(100))
    tracker.claim(A, ram(60))
    assert tracker.leaving == ResourceAllocation()
    tracker.begin_unload(A)
    assert tracker.leaving == ram(60)
    tracker.release(A)
    assert tracker.leaving == ResourceAllocation()
