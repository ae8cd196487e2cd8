"""Messages between two processes: in order, answered, and never waited for in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from channel_ends import WAIT_SECONDS, ChannelEnd

from serving.core.errors import Internal, NotFound, Unavailable
from serving.workers.channel import Answer, Channel, when_all


@pytest.fixture
def end() -> Iterator[ChannelEnd]:
    end = ChannelEnd()
    yield end
    if not end.ended.is_set():
        end.end()


def started(end: ChannelEnd, hear: Callable[[object, Answer], None]) -> Channel:
    channel = Channel(end.other, "the tested one")
    channel.start(hear, lambda: None)
    return channel


def test_what_is_told_and_asked_arrives_in_its_order(end: ChannelEnd) -> None:
    channel = started(end, lambda message, answer: None)
    end.answers = {str: None}
    for number in range(100):
        channel.tell(number)
    channel.ask("all").result(WAIT_SECONDS)
    assert end.heard == [*range(100), "all"]


def test_answers_find_their_questions_whatever_their_order(end: ChannelEnd) -> None:
    channel = started(end, lambda message, answer: None)
    end.answers = {str: None}
    first, second = channel.ask(1), channel.ask(2)
    channel.ask("both").result(WAIT_SECONDS)
    for message, answer in reversed(end.unanswered):
        answer(NotFound(f"no {message}"))
    assert str(first.result(WAIT_SECONDS)) == "NOT_FOUND: no 1"
    assert str(second.result(WAIT_SECONDS)) == "NOT_FOUND: no 2"


def test_who_fails_to_answer_says_so_and_listens_on(end: ChannelEnd) -> None:
    def hear(message: object, answer: Answer) -> None:
        if message == "refused":
            raise NotFound("refused")
        assert message == "fine"
        answer(message)

    started(end, hear)
    assert isinstance(end.ask("defect"), Internal)
    assert isinstance(end.ask("refused"), NotFound)
    assert end.ask("fine") == "fine"


def test_a_process_that_is_gone_leaves_nobody_waiting(end: ChannelEnd) -> None:
    gone = threading.Event()
    channel = Channel(end.other, "worker 1")
    channel.start(lambda message, answer: None, gone.set)
    asked = channel.ask("before")
    end.end()
    assert gone.wait(WAIT_SECONDS)
    assert channel.is_closed
    channel.tell("nobody hears it")
    for question in (asked, channel.ask("after")):
        outcome = question.result(WAIT_SECONDS)
        assert isinstance(outcome, Unavailable)
        assert outcome.message == "worker 1 is gone"


def test_all_answers_come_once_in_the_order_of_the_questions() -> None:
    questions: list[Future[object]] = [Future() for _ in range(3)]
    heard: list[object] = []
    when_all(questions, heard.append)
    for index in (2, 0, 1):
        assert heard == []
        questions[index].set_result(index)
    assert heard == [[0, 1, 2]]
    when_all([], heard.append)
    assert heard == [[0, 1, 2], []]
