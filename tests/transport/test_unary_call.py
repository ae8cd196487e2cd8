"""A call takes one reply, whoever gives it and whatever the handler raises."""

import logging
import threading

import pytest

from serving.core.call import CallContext
from serving.core.errors import Internal, NotFound
from serving.transport.unary_call import UnaryCall

METHOD = "/p.S/M"


@pytest.fixture
def sent():
    return []


def run(handler, sent):
    UnaryCall(METHOD, sent.append).run(handler, b"request", CallContext())


def test_the_handler_gets_bytes_and_context_and_its_reply_is_sent(sent):
    seen = []

    def handler(request, context, reply):
        seen.append((request, context))
        reply(b"response")

    context = CallContext(deadline=5.0)
    UnaryCall(METHOD, sent.append).run(handler, b"request", context)

    assert seen == [(b"request", context)]
    assert sent == [b"response"]


def test_a_second_reply_is_dropped_with_a_log_line(sent, caplog):
    def handler(request, context, reply):
        reply(b"first")
        reply(b"second")

    run(handler, sent)

    assert sent == [b"first"]
    assert "/p.S/M was answered twice" in caplog.text


def test_of_many_threads_exactly_one_wins(sent):
    call = UnaryCall(METHOD, sent.append)
    start = threading.Barrier(8)

    def reply(i):
        start.wait()
        call.reply(bytes([i]))

    threads = [threading.Thread(target=reply, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(sent) == 1


def test_an_error_raised_on_purpose_is_the_reply(sent):
    error = NotFound("no such model")

    def handler(request, context, reply):
        raise error

    run(handler, sent)

    assert sent == [error]


def test_a_defect_is_answered_without_its_text_and_logged_with_it(sent, caplog):
    def handler(request, context, reply):
        raise KeyError("/secret/path")

    run(handler, sent)

    (error,) = sent
    assert isinstance(error, Internal)
    assert error.message == "Internal server error"
    assert "/secret/path" in caplog.text
    assert "Traceback" in caplog.text


def test_an_exception_after_the_reply_changes_nothing(sent, caplog):
    def handler(request, context, reply):
        reply(b"done")
        raise NotFound("too late")

    run(handler, sent)

    assert sent == [b"done"]
    assert "answered twice" in caplog.text


def test_replies_to_an_abandoned_call_are_dropped_in_silence(sent, caplog):
    call = UnaryCall(METHOD, sent.append)

    with caplog.at_level(logging.DEBUG):
        assert call.abandon()
        call.reply(b"nobody listens")

    assert sent == []
    assert caplog.text == ""


def test_a_call_that_was_answered_cannot_be_abandoned(sent):
    call = UnaryCall(METHOD, sent.append)
    call.reply(b"done")

    assert not call.abandon()
    assert sent == [b"done"]
