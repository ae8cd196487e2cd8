"""The gRPC server over real channels on the loopback interface."""

import contextlib
import logging
import socket
import threading
import time
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from waiting import WAIT_SECONDS

from serving.core.errors import InvalidArgument, NotFound, Unavailable
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer

ECHO = "/test.Echo/Say"
HEALTH_KEYS = ("", "ModelService", "PredictionService")
LONG_GRACE_SECONDS = 600  # longer than a test may take


def echo(request, context, reply):
    reply(b"you said " + request)


@pytest.fixture
def serving(grpc_engine):
    """Opens servers on the engine under test."""

    @contextlib.contextmanager
    def opened(handler=echo, **options):
        server = GrpcServer(
            GrpcOptions(
                engine=grpc_engine, **{"address": "127.0.0.1:0", "max_threads": 4} | options
            ),
            {ECHO: handler},
        )
        server.start()
        try:
            with channel_to(server) as channel:
                yield server, channel
        finally:
            server.stop(0)

    return opened


def channel_to(server, **options):
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(f"127.0.0.1:{server.port}", options=unlimited)


def call(channel, request=b"hi", method=ECHO, **kwargs):
    return channel.unary_unary(method)(request, timeout=WAIT_SECONDS, **kwargs)


def failure(channel, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, **kwargs)
    return caught.value.code(), caught.value.details()


class Later:
    """A handler that keeps its calls, for the test to answer."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.replies = []

    def __call__(self, request, context, reply):
        self.replies.append(reply)
        self.arrived.release()

    def next_reply(self):
        assert self.arrived.acquire(timeout=WAIT_SECONDS)
        return self.replies.pop(0)


def test_bytes_go_in_and_bytes_come_out(serving):
    with serving() as (_, channel):
        assert call(channel, b"hello") == b"you said hello"
        assert call(channel, b"") == b"you said "


def test_an_empty_response_is_a_response(serving):
    def nothing(request, context, reply):
        reply(b"")

    with serving(nothing) as (_, channel):
        assert call(channel) == b""


def test_the_system_picks_port_0_and_the_server_tells_it(grpc_engine):
    server = GrpcServer(GrpcOptions(engine=grpc_engine, address="127.0.0.1:0"), {})

    assert server.port is None
    server.start()
    assert server.port > 0
    server.stop(0)


def test_a_reply_may_come_from_another_thread(serving):
    later = Later()
    with serving(later) as (_, channel):
        pending = channel.unary_unary(ECHO).future(b"hi", timeout=WAIT_SECONDS)
        later.next_reply()(b"from the test's thread")

        assert pending.result() == b"from the test's thread"


def test_an_error_may_come_from_another_thread(serving):
    later = Later()
    with serving(later) as (_, channel):
        pending = channel.unary_unary(ECHO).future(b"hi", timeout=WAIT_SECONDS)
        later.next_reply()(NotFound("gone"))

        assert pending.code() is grpc.StatusCode.NOT_FOUND
        assert pending.details() == "gone"


def test_the_second_of_two_replies_is_dropped(serving):
    def twice(request, context, reply):
        reply(b"first")
        reply(b"second")

    with serving(twice) as (_, channel):
        assert call(channel) == b"first"


def test_an_error_is_a_status_with_its_message(serving):
    def refuse(request, context, reply):
        reply(InvalidArgument("é is no model"))

    with serving(refuse) as (_, channel):
        assert failure(channel) == (grpc.StatusCode.INVALID_ARGUMENT, "é is no model")


def test_an_error_may_be_raised(serving):
    def refuse(request, context, reply):
        raise NotFound("no such model")

    with serving(refuse) as (_, channel):
        assert failure(channel) == (grpc.StatusCode.NOT_FOUND, "no such model")


def test_an_error_on_purpose_is_not_logged(serving, caplog):
    def refuse(request, context, reply):
        raise NotFound("no such model")

    with caplog.at_level(logging.DEBUG), serving(refuse) as (_, channel):
        failure(channel)

    assert "no such model" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_defect_is_internal_and_keeps_its_text_to_the_log(serving, caplog):
    def broken(request, context, reply):
        raise RuntimeError("/etc/secret")

    with serving(broken) as (_, channel):
        assert failure(channel) == (grpc.StatusCode.INTERNAL, "Internal server error")

    assert "/etc/secret" in caplog.text


def test_a_long_error_message_is_cut(serving):
    def refuse(request, context, reply):
        reply(NotFound("x" * 5000))

    with serving(refuse) as (_, channel):
        assert failure(channel)[1] == "x" * 1024 + "...TRUNCATED"


@pytest.mark.parametrize("method", ["/test.Echo/Other", "/test.Other/Say"])
def test_an_unknown_method_is_unimplemented(serving, method):
    with serving() as (_, channel):
        assert failure(channel, method=method)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_far_above_grpcs_default_limit_passes_both_ways(serving):
    request = bytes(9 * 2**20)
    with serving() as (_, channel):
        assert len(call(channel, request)) == len(request) + 9


def test_the_deadline_arrives_in_monotonic_seconds(serving):
    contexts = []

    def keep(request, context, reply):
        contexts.append(context)
        reply(b"")

    with serving(keep) as (_, channel):
        before = time.monotonic()
        channel.unary_unary(ECHO)(b"", timeout=30)
        channel.unary_unary(ECHO)(b"")

    assert before + 29 < contexts[0].deadline < time.monotonic() + 31
    assert contexts[1].deadline is None


def test_metadata_arrives(serving):
    contexts = []

    def keep(request, context, reply):
        contexts.append(context)
        reply(b"")

    with serving(keep) as (_, channel):
        call(channel, metadata=[("key", "text"), ("key-bin", b"\x00\xff")])

    metadata = [tuple(pair) for pair in contexts[0].metadata]
    assert ("key", "text") in metadata
    assert ("key-bin", b"\x00\xff") in metadata


def test_a_call_past_its_deadline_frees_its_thread_and_a_late_reply_is_harmless(serving, caplog):
    later = Later()
    with serving(later, max_threads=1) as (_, channel):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(ECHO)(b"", timeout=0.5)
        late = later.next_reply()
        # The only thread is free again, or this call would not reach the handler.
        pending = channel.unary_unary(ECHO).future(b"", timeout=WAIT_SECONDS)
        later.next_reply()(b"second")
        late(b"too late")

        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert pending.result() == b"second"

    assert caplog.text == ""


def test_a_cancelled_call_frees_its_thread(serving):
    later = Later()
    with serving(later, max_threads=1) as (_, channel):
        pending = channel.unary_unary(ECHO).future(b"")
        late = later.next_reply()
        pending.cancel()
        after = channel.unary_unary(ECHO).future(b"", timeout=WAIT_SECONDS)
        later.next_reply()(b"still here")
        late(NotFound("too late"))

        assert after.result() == b"still here"


def test_max_threads_calls_run_at_the_same_time(serving):
    later = Later()
    with serving(later, max_threads=3) as (_, channel):
        pending = [channel.unary_unary(ECHO).future(b"", timeout=WAIT_SECONDS) for _ in range(3)]
        for reply in [later.next_reply() for _ in pending]:
            reply(b"ok")

        assert [one.result() for one in pending] == [b"ok"] * 3


def test_of_thousands_of_calls_that_come_at_once_none_is_cancelled(serving):
    """A server that is held up for a moment finds them waiting; gRPC would keep a thousand."""
    held, go_on = threading.Semaphore(0), threading.Event()

    def hold(request, context, reply):
        held.release()
        go_on.wait(WAIT_SECONDS)
        reply(request)

    with serving(hold, max_threads=1) as (_, channel):
        method = channel.unary_unary(ECHO)
        calls = [method.future(b"first", timeout=WAIT_SECONDS)]
        assert held.acquire(timeout=WAIT_SECONDS)
        calls += [method.future(b"hi", timeout=WAIT_SECONDS) for _ in range(4000)]
        go_on.set()

        assert {call.exception() for call in calls} == {None}


def test_many_calls_from_many_threads_get_their_own_answers(serving):
    with serving() as (_, channel), futures.ThreadPoolExecutor(8) as pool:
        texts = [str(i).encode() for i in range(200)]
        answers = list(pool.map(lambda text: call(channel, text), texts))

    assert answers == [b"you said " + text for text in texts]


def test_channel_arguments_are_handed_to_grpc(serving):
    with serving(channel_arguments=(("grpc.max_receive_message_length", 10),)) as (_, channel):
        assert call(channel, b"short") == b"you said short"
        assert failure(channel, request=bytes(11))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_port_in_use_is_an_error_that_names_the_address(serving, grpc_engine):
    with serving() as (first, channel):
        address = f"127.0.0.1:{first.port}"
        second = GrpcServer(GrpcOptions(engine=grpc_engine, address=address), {ECHO: echo})
        with pytest.raises(Unavailable) as caught:
            second.start()

        assert caught.value.message == (
            f"gRPC cannot listen on {address}: it is in use, or is not an address of this host"
        )
        assert call(channel) == b"you said hi"


def test_a_server_that_cannot_listen_on_its_socket_lets_go_of_its_port(grpc_engine, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = GrpcServer(
        GrpcOptions(
            engine=grpc_engine,
            address=f"127.0.0.1:{port}",
            socket_path=f"{tmp_path}/no/such/folder",
        ),
        {},
    )
    with pytest.raises(Unavailable, match="no/such/folder"):
        server.start()

    again = GrpcServer(GrpcOptions(engine=grpc_engine, address=f"127.0.0.1:{port}"), {})
    again.start()
    again.stop(0)


def test_nothing_to_listen_on_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        GrpcOptions(address="")

    assert caught.value.message == (
        "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
    )


def test_a_unix_socket_serves_beside_tcp_and_is_gone_after_the_stop(serving, tmp_path):
    path = tmp_path / "grpc.sock"
    with serving(socket_path=str(path)) as (_, tcp), grpc.insecure_channel(f"unix:{path}") as unix:
        assert call(unix) == call(tcp) == b"you said hi"

    assert not path.exists()


def test_a_unix_socket_may_be_relative_and_alone(grpc_engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = GrpcServer(
        GrpcOptions(engine=grpc_engine, address="", socket_path="grpc.sock"), {ECHO: echo}
    )
    server.start()
    with grpc.insecure_channel("unix:grpc.sock") as channel:
        assert call(channel) == b"you said hi"
    assert server.port is None
    server.stop(0)


def test_a_stale_unix_socket_is_taken_over(serving, tmp_path):
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()

    with serving(socket_path=str(path)), grpc.insecure_channel(f"unix:{path}") as channel:
        assert call(channel) == b"you said hi"


def test_a_unix_socket_in_use_is_not_taken_over(serving, grpc_engine, tmp_path):
    path = tmp_path / "grpc.sock"
    with serving(socket_path=str(path)), grpc.insecure_channel(f"unix:{path}") as channel:
        second = GrpcServer(
            GrpcOptions(engine=grpc_engine, address="", socket_path=str(path)), {ECHO: echo}
        )
        with pytest.raises(Unavailable, match="another process listens on it"):
            second.start()

        assert call(channel) == b"you said hi"


def test_a_file_that_is_no_socket_is_left_alone(grpc_engine, tmp_path):
    path = tmp_path / "notes"
    path.write_text("keep me")
    server = GrpcServer(GrpcOptions(engine=grpc_engine, address="", socket_path=str(path)), {})
    with pytest.raises(Unavailable):
        server.start()

    assert path.read_text() == "keep me"


def services_by_reflection(channel, package):
    stream = channel.stream_stream(
        f"/grpc.reflection.{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (response,) = stream(iter([request]), timeout=WAIT_SECONDS)
    return {service.name for service in response.list_services_response.service}


@pytest.mark.parametrize("package", ["v1alpha", "v1"])
def test_reflection_lists_the_services(serving, package):
    with serving(health_service=True) as (_, channel):
        assert services_by_reflection(channel, package) == {
            "test.Echo",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }


def test_reflection_describes_a_service_whose_messages_are_loaded(serving):
    with serving(health_service=True) as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="grpc.health.v1.Health"
        )
        (response,) = stub.ServerReflectionInfo(iter([request]), timeout=WAIT_SECONDS)

    assert len(response.file_descriptor_response.file_descriptor_proto) == 1


def health_of(channel, key):
    request = health_pb2.HealthCheckRequest(service=key)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT_SECONDS).status


@pytest.mark.parametrize("key", HEALTH_KEYS)
def test_health_is_not_serving_until_the_server_says_so(serving, key):
    with serving(health_service=True) as (server, channel):
        assert health_of(channel, key) == health_pb2.HealthCheckResponse.NOT_SERVING
        server.set_serving(True)
        assert health_of(channel, key) == health_pb2.HealthCheckResponse.SERVING
        server.set_serving(False)
        assert health_of(channel, key) == health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_of_an_unknown_service_is_not_found(serving):
    with serving(health_service=True) as (_, channel), pytest.raises(grpc.RpcError) as caught:
        health_of(channel, "Other")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watch_of_an_unknown_service_says_so_and_stays_open(serving):
    with serving(health_service=True) as (_, channel):
        request = health_pb2.HealthCheckRequest(service="Other")
        watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=WAIT_SECONDS)

        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert watch.is_active()


def test_there_is_no_health_service_unless_wanted(serving):
    with serving() as (server, channel):
        server.set_serving(True)
        with pytest.raises(grpc.RpcError) as caught:
            health_of(channel, "")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stop_cancels_what_outlasts_the_grace(serving):
    later = Later()
    with serving(later) as (server, channel):
        pending = channel.unary_unary(ECHO).future(b"", timeout=WAIT_SECONDS)
        later.next_reply()
        server.stop(0.2)

        assert pending.exception().code() in {
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.UNAVAILABLE,
        }


def test_a_second_stop_shortens_the_grace(serving):
    later = Later()
    with serving(later) as (server, channel):
        pending = channel.unary_unary(ECHO).future(b"", timeout=WAIT_SECONDS)
        later.next_reply()
        stopping = threading.Thread(target=server.stop, args=(LONG_GRACE_SECONDS,))
        stopping.start()
        server.stop(0)
        stopping.join(WAIT_SECONDS)

        assert not stopping.is_alive()
        assert pending.exception() is not None


def test_a_client_that_watches_health_hears_of_the_stop_and_does_not_hold_it_up(serving):
    with serving(health_service=True) as (server, channel):
        server.set_serving(True)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.stop(LONG_GRACE_SECONDS)

        with contextlib.suppress(grpc.RpcError):
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(watch)


def test_a_client_that_keeps_reflection_open_does_not_hold_up_the_stop(serving):
    with serving() as (server, channel):
        hold = threading.Event()

        def requests():
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            hold.wait(LONG_GRACE_SECONDS)

        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(requests())
        next(stream)
        server.stop(LONG_GRACE_SECONDS)
        hold.set()


def test_a_server_may_be_stopped_twice_and_before_it_started(grpc_engine):
    server = GrpcServer(GrpcOptions(engine=grpc_engine, address="127.0.0.1:0"), {})
    server.stop(0)
    started = GrpcServer(GrpcOptions(engine=grpc_engine, address="127.0.0.1:0"), {})
    started.start()
    started.stop(0)
    started.stop(0)
