"""Each callback is called once or, let go in time, never; and nobody is kept alive for longer."""

import gc
import threading
import weakref

from serving.core.cancellation import Cancellation


class Work:
    """Counts how often it was told to stop."""

    def __init__(self):
        self.told = 0

    def stop(self):
        self.told += 1


def test_it_is_not_cancelled_until_somebody_does_so():
    cancellation = Cancellation()

    assert not cancellation.cancelled
    cancellation.cancel()
    assert cancellation.cancelled


def test_everyone_who_waits_is_called_once_and_in_order():
    cancellation, called = Cancellation(), []
    cancellation.when_cancelled(lambda: called.append("first"))
    cancellation.when_cancelled(lambda: called.append("second"))
    assert called == []

    cancellation.cancel()
    cancellation.cancel()

    assert called == ["first", "second"]


def test_who_comes_later_is_called_at_once():
    cancellation, work = Cancellation(), Work()
    cancellation.cancel()

    cancellation.when_cancelled(work.stop)

    assert work.told == 1


def test_who_is_forgotten_is_not_called_and_the_others_are():
    cancellation, gone, kept = Cancellation(), Work(), Work()
    for work in (gone, kept):
        cancellation.when_cancelled(work.stop)

    cancellation.forget(gone.stop)
    cancellation.cancel()

    assert (gone.told, kept.told) == (0, 1)


def test_forgetting_who_does_not_wait_has_no_effect():
    cancellation, work = Cancellation(), Work()
    cancellation.forget(work.stop)
    assert not cancellation.cancelled

    cancellation.cancel()
    cancellation.forget(work.stop)
    assert cancellation.cancelled


def test_what_a_callback_raises_is_logged_and_reaches_nobody(caplog):
    cancellation, work = Cancellation(), Work()

    def fail():
        raise ValueError("a defect")

    cancellation.when_cancelled(fail)
    cancellation.when_cancelled(work.stop)
    cancellation.cancel()
    cancellation.when_cancelled(fail)

    assert work.told == 1
    assert caplog.text.count("ValueError: a defect") == 2


def test_a_callback_may_use_the_cancellation():
    cancellation, work = Cancellation(), Work()

    def use():
        cancellation.forget(use)
        cancellation.when_cancelled(work.stop)

    cancellation.when_cancelled(use)
    cancellation.cancel()

    assert work.told == 1


def test_neither_a_call_nor_a_forgotten_callback_keeps_its_work_alive():
    """Without a look of the collector: they refer to each other only as long as one waits."""
    cancelled, forgotten = Cancellation(), Cancellation()
    gc.disable()
    try:
        for cancellation, let_go in (
            (cancelled, lambda _: cancelled.cancel()),
            (forgotten, lambda work: forgotten.forget(work.stop)),
        ):
            work = Work()
            work.cancellation = cancellation
            cancellation.when_cancelled(work.stop)
            let_go(work)
            is_alive = weakref.ref(work)
            del work
            assert is_alive() is None
    finally:
        gc.enable()


def test_of_threads_that_wait_forget_and_cancel_at_once_each_is_called_at_most_once():
    for _ in range(200):
        cancellation, start = Cancellation(), threading.Barrier(4)
        waits, forgets = Work(), Work()
        cancellation.when_cancelled(forgets.stop)

        def together(action, start=start):
            start.wait()
            action()

        actions = (
            cancellation.cancel,
            cancellation.cancel,
            lambda c=cancellation, w=waits: c.when_cancelled(w.stop),
            lambda c=cancellation, f=forgets: c.forget(f.stop),
        )
        threads = [threading.Thread(target=together, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert waits.told == 1
        assert forgets.told <= 1
