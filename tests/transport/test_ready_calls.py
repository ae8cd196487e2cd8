"""In which order calls that are ready are handled and answered."""

import pytest

from serving.testing import FakeClock
from serving.transport.ready_calls import ReadyCalls


class Call:
    """Takes ``seconds`` to handle; answered there and then, or later by somebody else."""

    def __init__(self, name, record, clock, seconds=0.0, answered=True):
        self.name = name
        self.record = record
        self.clock = clock
        self.seconds = seconds
        self.answered = answered

    def handle(self):
        self.record.append(f"handle {self.name}")
        self.clock.advance(self.seconds)
        return self.answered

    def answer(self):
        self.record.append(f"answer {self.name}")


class Ready:
    def __init__(self, num_open=100):
        self.record = []
        self.clock = FakeClock()
        self.calls = ReadyCalls(range(num_open), self.clock)

    def add(self, *names, **settings):
        for name in names:
            self.calls.add(Call(name, self.record, self.clock, **settings))

    def work_off(self):
        while self.calls:
            self.calls.step()
        return self.record


@pytest.fixture
def ready():
    return Ready()


def test_all_are_handled_and_then_all_are_answered_in_the_order_they_came(ready):
    ready.add("a", "b", "c")

    assert ready.work_off() == [
        *("handle a", "handle b", "handle c"),
        *("answer a", "answer b", "answer c"),
    ]


def test_a_call_without_an_answer_yet_is_left_to_who_answers_it(ready):
    ready.add("a", answered=False)
    ready.add("b")

    assert ready.work_off() == ["handle a", "handle b", "answer b"]


def test_no_answer_waits_for_more_than_two_milliseconds_of_others(ready):
    ready.add("a", "b", "c", "d", seconds=0.0015)

    assert ready.work_off() == [
        *("handle a", "handle b", "handle c", "answer a", "answer b", "answer c"),
        *("handle d", "answer d"),
    ]


@pytest.mark.parametrize(
    ("num_open", "num_ready", "complete"),
    [(0, 0, False), (1, 0, False), (1, 1, True), (3, 2, False), (3, 3, True), (500, 64, True)],
)
def test_nobody_looks_for_more_once_every_open_call_is_ready_or_64_are(
    num_open, num_ready, complete
):
    ready = Ready(num_open)
    ready.add(*range(num_ready))

    assert ready.calls.complete() is complete


def test_calls_that_are_ready_wait_for_256_events_at_most():
    ready = Ready()
    assert not ready.calls.complete()
    for _ in range(2):
        ready.add("a")
        assert [ready.calls.complete() for _ in range(256)] == [False] * 255 + [True]
        ready.work_off()
        assert not ready.calls.complete()


def test_a_call_takes_two_steps(ready):
    ready.add("a", "b")
    assert ready.calls.steps_left() == 4
    for _ in range(4):
        ready.calls.step()
    assert not ready.calls
    assert ready.calls.steps_left() == 0


def test_a_step_with_nothing_left_does_nothing(ready):
    ready.calls.step()

    assert not ready.calls
    assert ready.record == []
