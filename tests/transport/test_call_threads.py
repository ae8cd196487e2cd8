"""Calls that wait never keep other calls from a thread: real channels on the loopback interface."""

import contextlib
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from waiting import WAIT_SECONDS

from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer

ECHO = "/test.Echo/Say"
RELOAD = "/test.Control/Reload"
SERVING = health_pb2.HealthCheckResponse.SERVING


def echo(request, context, reply):
    reply(b"you said " + request)


class Later:
    """A handler that keeps its calls, for the test to answer."""

    def __init__(self):
        self._arrived = threading.Semaphore(0)
        self.replies = []

    def __call__(self, request, context, reply):
        self.replies.append(reply)
        self._arrived.release()

    def wait_for(self, calls):
        for _ in range(calls):
            assert self._arrived.acquire(timeout=WAIT_SECONDS)


@pytest.fixture
def serving(grpc_engine):
    """Opens servers on the engine under test."""

    @contextlib.contextmanager
    def opened(methods, max_threads, **arguments):
        options = GrpcOptions(
            engine=grpc_engine, address="127.0.0.1:0", max_threads=max_threads, health_service=True
        )
        server = GrpcServer(options, methods, **arguments)
        server.start()
        server.set_serving(True)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield server, channel
        finally:
            server.stop(0)

    return opened


def say(channel, method=ECHO, request=b"hi"):
    return channel.unary_unary(method).future(request, timeout=WAIT_SECONDS)


def health_of(channel):
    check = health_pb2_grpc.HealthStub(channel).Check
    return check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS).status


class OpenReflection:
    """A reflection stream that its client keeps open, having asked for nothing yet."""

    def __init__(self, channel):
        self._ask = threading.Event()
        self.answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            self._requests(), timeout=WAIT_SECONDS
        )

    def ask(self):
        self._ask.set()

    def _requests(self):
        self._ask.wait(WAIT_SECONDS)
        yield reflection_pb2.ServerReflectionRequest(list_services="")


def test_more_open_reflection_streams_than_there_are_threads_leave_calls_and_health_alone(serving):
    with serving({ECHO: echo}, max_threads=2) as (_, channel):
        streams = [OpenReflection(channel) for _ in range(12)]

        assert say(channel).result() == b"you said hi"
        assert health_of(channel) == SERVING
        for stream in streams:
            stream.ask()
        # Also those for which there was no thread had their turn.
        assert [len(list(stream.answers)) for stream in streams] == [1] * 12


def test_health_and_reflection_answer_while_every_call_thread_is_busy(serving):
    later = Later()
    with serving({ECHO: later}, max_threads=2) as (_, channel):
        busy = [say(channel) for _ in range(2)]
        later.wait_for(2)

        assert health_of(channel) == SERVING
        stream = OpenReflection(channel)
        stream.ask()
        assert len(list(stream.answers)) == 1
        for reply in later.replies:
            reply(b"done")
        assert [one.result() for one in busy] == [b"done"] * 2


def test_calls_of_a_waiting_method_leave_every_call_thread_to_the_others(serving):
    later = Later()
    methods = {ECHO: echo, RELOAD: later}
    with serving(methods, max_threads=1, waiting=frozenset({RELOAD})) as (_, channel):
        reloads = [say(channel, RELOAD) for _ in range(3)]
        later.wait_for(3)

        assert say(channel).result() == b"you said hi"
        for reply in later.replies:
            reply(b"loaded")
        assert [one.result() for one in reloads] == [b"loaded"] * 3


def test_more_waiting_calls_than_there_are_threads_have_their_turn(serving):
    later = Later()
    methods = {ECHO: echo, RELOAD: later}
    with serving(methods, max_threads=1, waiting=frozenset({RELOAD})) as (_, channel):
        reloads = [say(channel, RELOAD) for _ in range(20)]

        assert say(channel).result() == b"you said hi"
        for answered in range(20):
            later.wait_for(1)
            later.replies[answered](b"loaded")
        assert [one.result() for one in reloads] == [b"loaded"] * 20


def test_a_busy_call_thread_does_not_keep_a_waiting_method_from_being_called(serving):
    later = Later()
    methods = {ECHO: later, RELOAD: echo}
    with serving(methods, max_threads=1, waiting=frozenset({RELOAD})) as (_, channel):
        busy = say(channel)
        later.wait_for(1)

        assert say(channel, RELOAD).result() == b"you said hi"
        later.replies[0](b"done")
        assert busy.result() == b"done"


def test_clients_that_watch_health_hold_no_thread(serving):
    with serving({ECHO: echo}, max_threads=1) as (server, channel):
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watches = [watch(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS) for _ in range(12)]

        assert [next(one).status for one in watches] == [SERVING] * 12
        assert say(channel).result() == b"you said hi"
        assert health_of(channel) == SERVING
        server.set_serving(False)
        assert [next(one).status for one in watches] != [SERVING] * 12


def test_reflection_streams_that_still_wait_for_a_thread_do_not_hold_up_the_stop(serving):
    with serving({ECHO: echo}, max_threads=1) as (server, channel):
        streams = [OpenReflection(channel) for _ in range(12)]
        assert say(channel).result() == b"you said hi"  # sent after them, so they have arrived
        stopping = threading.Thread(target=server.stop, args=(10 * WAIT_SECONDS,))
        stopping.start()
        stopping.join(WAIT_SECONDS / 2)

        assert not stopping.is_alive()
        for stream in streams:
            with pytest.raises(grpc.RpcError):
                next(stream.answers)


def test_clients_that_leave_while_health_changes_do_not_lock_up_the_server(serving):
    with serving({ECHO: echo}, max_threads=1) as (server, channel):
        changes = threading.Thread(target=_leave_as_health_changes, args=(server, 30), daemon=True)
        changes.start()
        changes.join(WAIT_SECONDS)

        assert not changes.is_alive()
        assert health_of(channel) == SERVING


def _leave_as_health_changes(server, rounds):
    own = [("grpc.use_local_subchannel_pool", 1)]
    for _ in range(rounds):
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own) as leaving:
            watch = health_pb2_grpc.HealthStub(leaving).Watch
            watches = [watch(health_pb2.HealthCheckRequest()) for _ in range(12)]
            for one in watches:
                next(one)
        server.set_serving(False)
        server.set_serving(True)
