"""tensorflow.ProfilerService: what the server does, recorded while it serves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from serving.core.call import CallContext, Reply, UnaryHandler
from serving.core.clock import Clock
from serving.core.errors import AlreadyExists, Internal, InvalidArgument, ServingError, Unavailable
from serving.core.profiler import Profiler, TraceOptions
from serving.generated import profiler_service_pb2 as protos

log = logging.getLogger(__name__)

_SERVICE: str = protos.DESCRIPTOR.services_by_name["ProfilerService"].full_name
PROFILE = f"/{_SERVICE}/Profile"
MONITOR = f"/{_SERVICE}/Monitor"

_LONGEST_MS = 600_000
_FILE = "xplane.pb"  # what TensorBoard looks for, behind the name of the host
_MOST_EVENTS = {1: 10, 2: 50}
"""In the answer of Monitor, by its level."""

M = TypeVar("M", bound=Message)


class ProfilerService:
    """Answers the calls of ProfilerService, one recording at a time. Thread-safe.

    A recording has a thread of its own for as long as it takes. ``profiler`` is called when the
    first one is asked for; it raises a ServingError where there is no profiler.
    """

    def __init__(self, profiler: Callable[[], Profiler], clock: Clock) -> None:
        self._profiler = profiler
        self._clock = clock
        self._recording = threading.Lock()  # held from the first word of one to its answer
        self._current = ("", threading.Event())  # the session of it, and what ends it early

    def methods(self) -> Mapping[str, UnaryHandler]:
        """The handler of each method, by its full path."""
        return {
            PROFILE: self._profile,
            f"/{_SERVICE}/Terminate": self._terminate,
            MONITOR: self._monitor,
        }

    def _profile(self, data: bytes, context: CallContext, reply: Reply) -> None:
        """The trace travels in the answer, and the client saves it: the server writes no file."""
        request = _parsed(protos.ProfileRequest, data)
        options = _trace_options(request, self._clock.time())

        def record(stop: threading.Event) -> bytes:
            trace = self._profiler().trace(options, stop)
            response = protos.ProfileResponse(empty_trace=trace.is_empty)
            if not trace.is_empty:
                response.tool_data.add(name=_FILE, data=trace.encoded)
            return response.SerializeToString()

        self._begin(request.session_id, record, context, reply)

    def _monitor(self, data: bytes, context: CallContext, reply: Reply) -> None:
        request = _parsed(protos.MonitorRequest, data)
        options = TraceOptions(_seconds(request.duration_ms))
        most_events = _MOST_EVENTS.get(request.monitoring_level)
        if most_events is None:
            level = request.monitoring_level
            raise InvalidArgument(f"monitoring_level must be 1 or 2, not {level}")

        def record(stop: threading.Event) -> bytes:
            began = time.localtime(self._clock.time())
            profiler = self._profiler()
            text = profiler.summary(profiler.trace(options, stop), most_events)
            if request.timestamp:
                text = f"Timestamp: {time.strftime('%H:%M:%S', began)}\n{text}"
            return protos.MonitorResponse(data=text).SerializeToString()

        self._begin("", record, context, reply)

    def _terminate(self, data: bytes, _context: CallContext, reply: Reply) -> None:
        """End that session's recording early; its answer holds what there is."""
        session = _parsed(protos.TerminateRequest, data).session_id
        current, stop = self._current
        if session and session == current:
            stop.set()
        reply(protos.TerminateResponse().SerializeToString())

    def _begin(
        self,
        session: str,
        record: Callable[[threading.Event], bytes],
        context: CallContext,
        reply: Reply,
    ) -> None:
        """Record on a thread, at most until the call ends. Raises AlreadyExists beside another.

        And Unavailable where the system has no thread for it.
        """
        if not self._recording.acquire(blocking=False):
            raise AlreadyExists("Another profiler session active.")
        stop = threading.Event()
        self._current = (session, stop)
        if context.cancellation:
            context.cancellation.when_cancelled(stop.set)

        def end() -> None:
            self._current = ("", stop)
            self._recording.release()

        def work() -> None:
            answer = _outcome(record, stop)
            end()
            reply(answer)

        try:
            threading.Thread(target=work, name="profiler", daemon=True).start()
        except RuntimeError:
            end()
            raise Unavailable("there is no thread for a recording") from None


def _outcome(
    record: Callable[[threading.Event], bytes], stop: threading.Event
) -> bytes | ServingError:
    try:
        return record(stop)
    except ServingError as error:
        return error
    except Exception:
        log.exception("a recording failed")
        return Internal("Internal server error")


def _trace_options(request: protos.ProfileRequest, now_seconds: float) -> TraceOptions:
    asked = request.opts
    seconds = _seconds(asked.duration_ms or request.duration_ms)
    begin_in = asked.start_timestamp_ns / 1e9 - now_seconds
    delay_seconds = min(max(begin_in, 0.0), _LONGEST_MS / 1000)
    if not asked.version:  # as TensorFlow has it: the levels were not set by anybody
        return TraceOptions(seconds, delay_seconds=delay_seconds)
    return TraceOptions(
        seconds,
        host_level=asked.host_tracer_level,
        device_level=asked.device_tracer_level,
        python_level=asked.python_tracer_level,
        delay_seconds=delay_seconds,
    )


def _seconds(duration_ms: int) -> float:
    if not 0 < duration_ms <= _LONGEST_MS:
        raise InvalidArgument(f"duration_ms must be 1 to {_LONGEST_MS}, not {duration_ms}")
    return duration_ms / 1000


def _parsed(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise Internal(f"Error parsing request: the bytes are not a {name}") from None
