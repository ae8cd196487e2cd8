"""Events reach every subscriber in order, until it cancels."""

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
