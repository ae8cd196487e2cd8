"""Waiting on the main thread, which signals must be able to interrupt."""

import signal
import threading
from concurrent.futures import Future
from queue import SimpleQueue

import pytest

from serving.core.main_thread import next_of, result_of


class Interrupted(Exception):
    """Raised by the handler of a signal."""


@pytest.fixture
def interrupting():
    def interrupt(_number, _frame):
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident
    timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    yield timer
    timer.join()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("wait", [lambda: next_of(SimpleQueue()), lambda: result_of(Future())])
def test_a_signal_ends_the_wait_by_what_its_handler_raises(interrupting, wait):
    interrupting.start()
    with pytest.raises(Interrupted):
        wait()


def test_items_come_in_order_though_they_come_late():
    queue = SimpleQueue()
    threading.Timer(0.6, lambda: [queue.put(1), queue.put(2)]).start()

    assert [next_of(queue), next_of(queue)] == [1, 2]


def test_the_result_of_a_future_or_its_error():
    good, bad = Future(), Future()
    threading.Timer(0.6, good.set_result, ["late"]).start()
    bad.set_exception(ValueError("broken"))

    assert result_of(good) == "late"
    with pytest.raises(ValueError, match="broken"):
        result_of(bad)
