"""Who polls, and who takes over from a thread that is held up."""

import threading
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue

import pytest
from waiting import WAIT_SECONDS

from serving.testing import FakeClock
from serving.transport.polling_threads import PollingThreads


class Event:
    def __init__(self, tag):
        self.tag = tag


LAST = Event(None)


class Tasks:
    """A backlog of functions."""

    def __init__(self):
        self.tasks = deque()
        self.wanted = float("inf")

    def __bool__(self):
        return bool(self.tasks)

    def complete(self):
        return len(self.tasks) >= self.wanted

    def steps_left(self):
        return len(self.tasks)

    def step(self):
        with suppress(IndexError):
            self.tasks.popleft()()


class Polled:
    """Events in a queue that the threads poll, and who dealt with each."""

    def __init__(self, max_threads=4):
        self.events = SimpleQueue()
        self.dealt_with = SimpleQueue()
        self.backlog = Tasks()
        self.threads = PollingThreads(self._poll, self.backlog, max_threads, FakeClock())
        self.threads.start()

    def _poll(self, wait):
        try:
            event = self.events.get(block=wait)
        except Empty:
            return None
        if isinstance(event, Exception):
            raise event
        return event

    def deal(self):
        """Have one event dealt with; returns the thread."""
        self.events.put(Event(lambda _: self.dealt_with.put(threading.current_thread())))
        return self.dealt_with.get(timeout=WAIT_SECONDS)

    def hold_up(self):
        """Hold up the thread that polls until the event returned is set."""
        held, go_on = threading.Event(), threading.Event()

        def wait(_):
            held.set()
            go_on.wait(WAIT_SECONDS)

        self.events.put(Event(wait))
        assert held.wait(WAIT_SECONDS)
        return go_on

    def look_twice(self):
        self.threads.look()
        self.threads.look()


@pytest.fixture
def polled():
    made = Polled()
    yield made
    for _ in range(8):
        made.events.put(LAST)
    assert made.threads.join(WAIT_SECONDS)


def test_one_thread_deals_with_every_event(polled):
    dealing = {polled.deal() for _ in range(50)}
    polled.look_twice()
    dealing |= {polled.deal() for _ in range(50)}

    assert len(dealing) == 1


def test_a_thread_held_up_at_two_looks_is_replaced_and_ends_when_it_is_free(polled):
    first = polled.deal()
    go_on = polled.hold_up()
    polled.look_twice()
    second = polled.deal()
    go_on.set()
    first.join(WAIT_SECONDS)

    assert second is not first
    assert not first.is_alive()
    assert polled.deal() is second


def test_a_thread_that_went_on_between_two_looks_is_not_replaced(polled):
    first = polled.deal()
    polled.hold_up().set()
    polled.threads.look()
    polled.deal()
    go_on = polled.hold_up()
    polled.threads.look()
    go_on.set()

    assert polled.deal() is first


def test_there_are_never_more_threads_than_allowed():
    polled = Polled(max_threads=2)
    holds = []
    for _ in range(2):
        holds.append(polled.hold_up())
        polled.look_twice()
    alive = [thread for thread in threading.enumerate() if thread.name.startswith("grpc-poll")]
    for hold in holds:
        hold.set()
    for _ in range(8):
        polled.events.put(LAST)

    assert len(alive) == 2
    assert polled.threads.join(WAIT_SECONDS)


def test_once_a_thread_is_free_again_the_next_one_may_be_replaced():
    polled = Polled(max_threads=2)
    first, second = polled.hold_up(), None
    polled.look_twice()
    second = polled.hold_up()
    polled.look_twice()
    first.set()
    polled.threads._pollers[0].thread.join(WAIT_SECONDS)
    polled.look_twice()

    assert polled.deal()
    second.set()
    for _ in range(8):
        polled.events.put(LAST)
    assert polled.threads.join(WAIT_SECONDS)


def test_an_event_that_raises_is_logged_and_the_next_one_is_dealt_with(polled, caplog):
    def fail(_):
        raise RuntimeError("broken event")

    polled.events.put(Event(fail))

    assert polled.deal().is_alive()
    assert "broken event" in caplog.text


def test_an_event_that_can_not_be_taken_is_logged_and_the_next_one_is_dealt_with(polled, caplog):
    polled.events.put(MemoryError("a large event"))

    assert polled.deal().is_alive()
    assert "a large event" in caplog.text


def add_to_backlog(polled, *tasks):
    """An event that leaves these to be done."""
    return Event(lambda _: polled.backlog.tasks.extend(tasks))


def test_what_events_leave_is_done_once_no_more_of_them_are_there(polled):
    done = SimpleQueue()
    go_on = polled.hold_up()
    for number in range(3):
        polled.events.put(add_to_backlog(polled, lambda number=number: done.put(number)))
    polled.events.put(Event(lambda _: done.put("last event")))
    go_on.set()

    assert [done.get(timeout=WAIT_SECONDS) for _ in range(4)] == ["last event", 0, 1, 2]


def test_a_complete_backlog_is_done_before_the_next_event(polled):
    polled.backlog.wanted = 2
    done = SimpleQueue()
    go_on = polled.hold_up()
    for number in range(2):
        polled.events.put(add_to_backlog(polled, lambda number=number: done.put(number)))
    polled.events.put(Event(lambda _: done.put("last event")))
    go_on.set()

    assert [done.get(timeout=WAIT_SECONDS) for _ in range(3)] == [0, 1, "last event"]


def test_a_step_that_is_held_up_is_taken_over_from_with_the_rest_of_the_backlog(polled):
    started, held, done = threading.Event(), threading.Event(), SimpleQueue()

    def hold():
        started.set()
        held.wait(WAIT_SECONDS)
        done.put("held")

    polled.events.put(add_to_backlog(polled, hold, lambda: done.put("next")))
    started.wait(WAIT_SECONDS)
    polled.look_twice()
    assert done.get(timeout=WAIT_SECONDS) == "next"
    held.set()
    assert done.get(timeout=WAIT_SECONDS) == "held"


def test_what_a_replaced_thread_leaves_behind_is_done_though_nothing_else_comes(polled):
    """The thread that took over waits for an event by then."""
    done = SimpleQueue()
    held, go_on = threading.Event(), threading.Event()

    def wait(_):
        held.set()
        go_on.wait(WAIT_SECONDS)
        polled.backlog.tasks.append(lambda: done.put("left"))

    polled.events.put(Event(wait))
    held.wait(WAIT_SECONDS)
    polled.look_twice()
    polled.deal()
    go_on.set()

    assert done.get(timeout=WAIT_SECONDS) == "left"


def test_a_replaced_thread_ends_though_there_is_always_more_to_be_done(polled):
    """The thread that took over does it."""
    first = polled.deal()
    held, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def wait(_):
        held.set()
        go_on.wait(WAIT_SECONDS)
        polled.backlog.tasks.append(again)

    def again():
        if not over.wait(0.001):
            polled.backlog.tasks.append(again)

    polled.events.put(Event(wait))
    held.wait(WAIT_SECONDS)
    polled.look_twice()
    polled.deal()
    polled.events.put(add_to_backlog(polled, again))
    go_on.set()
    first.join(WAIT_SECONDS)
    is_alive = first.is_alive()
    over.set()

    assert not is_alive


def test_a_step_that_raises_is_logged_and_the_next_one_is_done(polled, caplog):
    done = SimpleQueue()

    def fail():
        raise RuntimeError("broken step")

    polled.events.put(add_to_backlog(polled, fail, lambda: done.put("next")))

    assert done.get(timeout=WAIT_SECONDS) == "next"
    assert "broken step" in caplog.text


def test_joining_leaves_a_thread_behind_that_does_not_end():
    polled = Polled()
    go_on = polled.hold_up()
    assert not polled.threads.join(0.01)
    go_on.set()
    polled.events.put(LAST)
    assert polled.threads.join(WAIT_SECONDS)
