"""Who works for a call hears, once, that nobody waits for the answer any more."""

import contextlib
import gc
import threading
import weakref

import grpc
import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import Unavailable
from serving.transport import completion_queue_calls, unary_call
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from tests.transport.http2_client import raw_client

METHOD = "/test.Work/Do"
CALLS = (completion_queue_calls.UnaryCall, unary_call.UnaryCall)


class Work:
    """What a call waits for; it is kept by those who may want to end it, and nobody else."""

    def __init__(self, worker, context, reply):
        self.worker = worker
        self.cancellation = context.cancellation
        self.reply = reply
        self.cancellation.when_cancelled(self.give_up)

    def give_up(self):
        self.worker.given_up.append(id(self.reply))
        self.reply(Unavailable("given up"))
        self.worker.gives_up.release()


class Worker:
    """A handler that begins work and returns."""

    def __init__(self, *, keeps=True):
        self.begun = threading.Semaphore(0)
        self.gives_up = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)  # nobody has the work in hand any more
        self.given_up = []
        self.keeps = keeps
        self.works = []
        self._alive = []

    def __call__(self, request, context, reply):
        work = Work(self, context, reply)
        self._alive.append(weakref.ref(work, lambda _: self.ended.release()))
        if self.keeps:
            self.works.append(work)
        self.begun.release()

    def next_work(self):
        wait_for(self.begun)
        return self.works.pop()


def wait_for(semaphore, times=1):
    for _ in range(times):
        assert semaphore.acquire(timeout=WAIT_SECONDS)


@pytest.fixture
def serving(grpc_engine):
    """Opens servers on the engine under test; yields the server and a channel to it."""

    @contextlib.contextmanager
    def opened(handler, **options):
        options = GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", **options)
        server = GrpcServer(options, {METHOD: handler})
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield server, channel
        finally:
            server.stop(0)

    return opened


@pytest.fixture
def worker():
    return Worker()


def begin(channel, **options):
    return channel.unary_unary(METHOD).future(b"", **options)


def test_a_client_that_cancels_ends_the_work(serving, worker, caplog):
    """Once, and what is answered then goes nowhere."""
    with serving(worker) as (_, channel):
        pending = begin(channel)
        work = worker.next_work()
        assert not work.cancellation.cancelled

        pending.cancel()
        wait_for(worker.gives_up)
        assert work.cancellation.cancelled

    assert len(worker.given_up) == 1
    assert caplog.text == ""


def test_a_deadline_that_passes_ends_the_work(serving, worker):
    with serving(worker) as (_, channel):
        pending = begin(channel, timeout=0.3)
        wait_for(worker.gives_up)

        assert pending.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(worker.given_up) == 1


def test_a_connection_that_breaks_ends_the_work(serving, worker):
    with serving(worker) as (server, _), raw_client(server.port) as client:
        client.send(client.open(METHOD), b"")
        client.flush()
        worker.next_work()
        client.vanish()
        wait_for(worker.gives_up)

    assert len(worker.given_up) == 1


def test_a_stop_ends_the_work_that_outlasts_the_grace(serving, worker):
    with serving(worker) as (server, channel):
        pending = begin(channel)
        worker.next_work()
        server.stop(0)
        wait_for(worker.gives_up)

        assert pending.exception() is not None
    assert len(worker.given_up) == 1


def test_a_client_that_cancels_while_the_handler_runs_is_noticed_after_that(serving, worker):
    cancelled = threading.Event()

    def slow(request, context, reply):
        worker.begun.release()
        assert cancelled.wait(WAIT_SECONDS)
        worker(request, context, reply)

    with serving(slow) as (_, channel):
        pending = begin(channel)
        wait_for(worker.begun)
        pending.cancel()
        cancelled.set()
        wait_for(worker.gives_up)

    assert len(worker.given_up) == 1


def test_work_that_is_answered_is_never_ended(serving, worker):
    """Neither when its client leaves nor when the server stops, also if nobody lets go of it."""
    with serving(worker) as (_, channel):
        pending = begin(channel, timeout=WAIT_SECONDS)
        work = worker.next_work()
        work.reply(b"done")
        assert pending.result() == b"done"
        pending.cancel()

    assert worker.given_up == []
    assert not work.cancellation.cancelled


def test_work_that_is_answered_in_the_handler_is_never_ended(serving, worker):
    def quick(request, context, reply):
        worker(request, context, reply)
        reply(b"done")

    with serving(quick) as (_, channel):
        assert channel.unary_unary(METHOD)(b"", timeout=WAIT_SECONDS) == b"done"

    assert worker.given_up == []


def test_a_thousand_calls_cancelled_at_once_end_their_work_once_each_and_leave_nothing(serving):
    worker = Worker(keeps=False)
    with serving(worker, max_threads=1000) as (_, channel), collector_off():
        pending = [begin(channel) for _ in range(1000)]
        wait_for(worker.begun, 1000)
        for call in pending:
            call.cancel()
        wait_for(worker.ended, 1000)

    assert len(set(worker.given_up)) == len(worker.given_up) == 1000
    assert calls_left() == 0


def test_a_hundred_calls_that_are_answered_leave_nothing(serving):
    worker = Worker()
    with serving(worker, max_threads=100) as (_, channel), collector_off():
        pending = [begin(channel, timeout=WAIT_SECONDS) for _ in range(100)]
        wait_for(worker.begun, 100)
        while worker.works:
            work = worker.works.pop()
            work.cancellation.forget(work.give_up)
            work.reply(b"done")
            del work
        wait_for(worker.ended, 100)

        assert [call.result() for call in pending] == [b"done"] * 100
    assert calls_left() == 0


@contextlib.contextmanager
def collector_off():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def calls_left():
    return sum(isinstance(each, CALLS) for each in gc.get_objects())
