"""ProfilerService over a profiler that records nothing, for as long as the test wants."""

import threading
from queue import SimpleQueue

import pytest
from waiting import WAIT_SECONDS

from serving.apis.profiler.profiler_service import ProfilerService
from serving.core.call import CallContext
from serving.core.cancellation import Cancellation
from serving.core.errors import AlreadyExists, Internal, InvalidArgument, Unavailable, Unimplemented
from serving.core.profiler import Trace, TraceOptions
from serving.generated import profiler_service_pb2 as protos
from serving.testing import FakeClock

PROFILE = "/tensorflow.ProfilerService/Profile"
MONITOR = "/tensorflow.ProfilerService/Monitor"
TERMINATE = "/tensorflow.ProfilerService/Terminate"


class Profiler:
    """Waits until it is told to stop, without looking at the time."""

    def __init__(self):
        self.asked = SimpleQueue()
        self.recorded = Trace(b"events", is_empty=False)

    def trace(self, options, stop):
        self.asked.put(options)
        assert stop.wait(WAIT_SECONDS)
        return self.recorded

    def summary(self, trace, most_events):
        return f"the {most_events} longest of {trace.encoded.decode()}"


@pytest.fixture
def profiler():
    return Profiler()


@pytest.fixture
def service(profiler):
    return ProfilerService(lambda: profiler, FakeClock(1000.0))


class Call:
    """One call in progress; who awaits its outcome gets the message of this kind, or the error."""

    def __init__(self, service, method, request, kind):
        self.cancellation = Cancellation()
        self._kind = kind
        self._answers = SimpleQueue()
        context = CallContext(cancellation=self.cancellation)
        data = request if isinstance(request, bytes) else request.SerializeToString()
        service.methods()[method](data, context, self._answers.put)

    def outcome(self):
        answer = self._answers.get(timeout=WAIT_SECONDS)
        return self._kind.FromString(answer) if isinstance(answer, bytes) else answer


def profile(service, session="s", **fields):
    request = protos.ProfileRequest(session_id=session, **{"duration_ms": 500} | fields)
    return Call(service, PROFILE, request, protos.ProfileResponse)


def monitor(service, **fields):
    request = protos.MonitorRequest(**{"duration_ms": 500, "monitoring_level": 1} | fields)
    return Call(service, MONITOR, request, protos.MonitorResponse)


def terminate(service, session="s"):
    request = protos.TerminateRequest(session_id=session)
    Call(service, TERMINATE, request, protos.TerminateResponse).outcome()


def test_a_trace_travels_in_the_answer_under_the_name_that_tensorboard_looks_for(service):
    call = profile(service)
    terminate(service)

    (file,) = call.outcome().tool_data
    assert (file.name, file.data) == ("xplane.pb", b"events")


def test_a_trace_without_an_event_is_said_to_be_empty(service, profiler):
    profiler.recorded = Trace(b"", is_empty=True)
    call = profile(service)
    terminate(service)

    assert call.outcome() == protos.ProfileResponse(empty_trace=True)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, TraceOptions(0.5)),
        ({"opts": protos.ProfileRequest.Options(duration_ms=100)}, TraceOptions(0.1)),
        (
            {"opts": protos.ProfileRequest.Options(version=1, host_tracer_level=3)},
            TraceOptions(0.5, host_level=3, device_level=0, python_level=0),
        ),
        (
            {"opts": protos.ProfileRequest.Options(start_timestamp_ns=1_002_000_000_000)},
            TraceOptions(0.5, delay_seconds=2.0),
        ),
    ],
)
def test_what_is_recorded_is_what_the_request_says(service, profiler, fields, options):
    call = profile(service, **fields)

    assert profiler.asked.get(timeout=WAIT_SECONDS) == options
    terminate(service)
    call.outcome()


def test_there_is_one_recording_at_a_time(service):
    first = profile(service)
    with pytest.raises(AlreadyExists):
        profile(service, session="other")
    with pytest.raises(AlreadyExists):
        monitor(service)

    terminate(service)
    first.outcome()
    second = profile(service, session="other")
    terminate(service, session="other")
    assert second.outcome().tool_data


def test_terminate_ends_its_own_session_only(service, profiler):
    call = profile(service)
    profiler.asked.get(timeout=WAIT_SECONDS)

    terminate(service, session="other")
    terminate(service, session="")
    with pytest.raises(AlreadyExists):
        profile(service)

    terminate(service)
    call.outcome()


def test_a_recording_ends_with_its_call(service):
    call = profile(service)
    call.cancellation.cancel()

    call.outcome()


def test_monitor_answers_with_text_and_the_time_where_that_is_wanted(service):
    plain = monitor(service, monitoring_level=2)
    plain.cancellation.cancel()
    assert plain.outcome().data == "the 50 longest of events"

    timed = monitor(service, timestamp=True)
    timed.cancellation.cancel()
    assert timed.outcome().data.startswith("Timestamp: ")


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (lambda service: profile(service, duration_ms=0), "duration_ms must be 1 to 600000, not 0"),
        (
            lambda service: profile(service, duration_ms=600_001),
            "duration_ms must be 1 to 600000, not 600001",
        ),
        (lambda service: monitor(service, duration_ms=0), "duration_ms must be 1 to 600000, not 0"),
        (
            lambda service: monitor(service, monitoring_level=3),
            "monitoring_level must be 1 or 2, not 3",
        ),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(service, begin, message):
    with pytest.raises(InvalidArgument) as caught:
        begin(service)

    assert caught.value.message == message
    call = profile(service)  # and holds nothing
    terminate(service)
    call.outcome()


def test_bytes_that_are_no_request_are_refused(service):
    with pytest.raises(Internal, match=r"not a tensorflow\.ProfileRequest"):
        Call(service, PROFILE, b"\xff", protos.ProfileResponse)


def test_where_there_is_no_profiler_every_call_says_so():
    def missing():
        raise Unimplemented("profiling needs tensorflow, which is not installed")

    service = ProfilerService(missing, FakeClock())

    for _ in range(2):
        assert isinstance(profile(service).outcome(), Unimplemented)


def test_a_profiler_that_fails_tells_clients_nothing_of_it(service, profiler, caplog):
    profiler.summary = None
    call = monitor(service)
    call.cancellation.cancel()

    outcome = call.outcome()
    assert (type(outcome), outcome.message) == (Internal, "Internal server error")
    assert "a recording failed" in caplog.text


def test_handlers_return_at_once(service):
    """They run on the thread that carries every call."""
    caller = threading.get_ident()
    threads = SimpleQueue()
    profiler_of = service._profiler
    service._profiler = lambda: threads.put(threading.get_ident()) or profiler_of()

    call = profile(service)
    assert threads.get(timeout=WAIT_SECONDS) != caller
    terminate(service)
    call.outcome()


def test_without_a_thread_for_it_a_recording_is_refused_and_the_next_one_is_not(
    service, monkeypatch
):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Unavailable, match="there is no thread for a recording"):
            profile(service)
    recording = profile(service)
    recording.cancellation.cancel()
    assert recording.outcome().tool_data
