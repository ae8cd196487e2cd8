"""Events reach every subscriber in order, until it cancels."""

import pytest

from serving.core.event_bus import EventBus


def test_every_subscriber_sees_every_event_in_order() -> None:
    bus: EventBus[int] = EventBus()
    first: list[int] = []
    second: list[int] = []
    bus.subscribe(first.append)
    bus.subscribe(second.append)
    for event in range(3):
        bus.publish(event)
    assert first == second == [0, 1, 2]


def test_a_cancelled_subscription_hears_nothing_more() -> None:
    bus: EventBus[int] = EventBus()
    heard: list[int] = []
    with bus.subscribe(heard.append) as subscription:
        bus.publish(1)
    subscription.cancel()
    bus.publish(2)
    assert heard == [1]


def test_publishing_to_nobody_is_fine() -> None:
    EventBus[int]().publish(1)


def test_a_subscriber_that_raises_is_logged_and_keeps_the_event_from_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus: EventBus[int] = EventBus()
    heard: list[int] = []

    def explode(event: int) -> None:
        raise RuntimeError("no")

    bus.subscribe(explode)
    bus.subscribe(heard.append)
    bus.publish(7)
    assert heard == [7]
    assert "a subscriber failed on 7" in caplog.text
