"""What is written down of a call: its id, who hears of it, its moments."""

import re

import pytest

from serving.core.call_observer import CallObserver
from serving.core.observed_call import CURRENT_CALL, Arrival, Protocols, working_for
from serving.testing import FakeClock


class Listener:
    """Remembers what it was told, or fails."""

    def __init__(self, fails=False):
        self.heard = []
        self._fails = fails

    def began(self, call, metadata):
        self.heard.append(("began", call))
        if self._fails:
            raise RuntimeError("a defect")

    def ended(self, call):
        self.heard.append(("ended", call))
        if self._fails:
            raise RuntimeError("a defect")


ARRIVAL = Arrival(Protocols.GRPC, "package.Service/Method", "127.0.0.1:5000")


def begin(*metadata, listeners=(), clock=None, returns_request_ids=False):
    observer = CallObserver(
        listeners, clock or FakeClock(), returns_request_ids=returns_request_ids
    )
    return observer.begin(ARRIVAL, metadata)


@pytest.mark.parametrize("sent", ["7", "a" * 128, "4bf92f35-77b3:1/2+3=4@host,x~y_z.0"])
def test_the_id_that_a_client_sends_is_the_calls(sent):
    assert begin(("user-agent", "me"), ("x-request-id", sent)).request_id == sent


@pytest.mark.parametrize(
    "sent", ["", "a" * 129, "two words", "line\nbreak", 'quote"', "\u00e9", b"\xff"]
)
def test_an_id_that_is_not_sane_is_replaced(sent):
    assert re.fullmatch("[0-9a-f]{32}", begin(("x-request-id", sent)).request_id)


def test_every_call_without_an_id_gets_one_of_its_own():
    assert begin().request_id != begin().request_id


@pytest.mark.parametrize(
    ("metadata", "always", "returned"),
    [((), False, False), ((), True, True), ((("x-request-id", "7"),), False, True)],
)
def test_the_id_goes_back_to_who_sent_one_or_to_all(metadata, always, returned):
    call = begin(*metadata, returns_request_ids=always)

    assert call.returns_request_id == returned


def test_listeners_hear_of_the_beginning_and_of_the_end():
    listener = Listener()
    call = begin(listeners=[listener])
    call.answered("OK", 5)
    call.tell_ended()

    assert listener.heard == [("began", call), ("ended", call)]


def test_a_listener_that_fails_is_logged_and_keeps_the_call_from_nobody(caplog):
    second = Listener()
    call = begin(listeners=[Listener(fails=True), second])
    call.tell_ended()

    assert [moment for moment, _ in second.heard] == ["began", "ended"]
    assert "failed when a call began" in caplog.text
    assert "failed when a call had ended" in caplog.text


def test_the_first_answer_and_the_first_run_count():
    clock = FakeClock(1000)
    call = begin(clock=clock)
    clock.advance(1)
    call.run_begins(requests=3, rows=8)
    call.answered("OK", 5)
    clock.advance(1)
    call.run_begins(requests=1, rows=2)
    call.answered("INTERNAL", 0)

    assert (call.began, call.run_began, call.ended) == (1000, 1001, 1001)
    assert (call.batch_requests, call.batch_rows, call.code) == (3, 8, "OK")


def test_a_thread_works_for_a_call_within_the_block_alone():
    outer, inner = begin(), begin()

    with working_for(outer):
        with working_for(inner):
            assert CURRENT_CALL.get() is inner
        assert CURRENT_CALL.get() is outer
    assert CURRENT_CALL.get() is None


def test_of_names_that_clients_choose_so_much_is_kept():
    call = begin()
    call.asks_for("m" * 10_000, 3)

    assert (len(call.model_name), call.version) == (256, 3)
