"""The access log: one line for each call, written off the threads that work for calls."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue

from serving.core.errors import InvalidArgument
from serving.core.observed_call import ObservedCall, RequestMetadata
from serving.observability.appended_file import AppendedFile, StandardOutput
from serving.observability.log_lines import rfc3339

log = logging.getLogger(__name__)

STDOUT = "stdout"
_MOST_WAITING = 20_000
_MOST_AT_ONCE = 500
_SECONDS_TO_STOP = 5.0
_PLAIN = re.compile(r"[\w.:/+@,~\[\]{}%-]+", re.ASCII)

_Fields = Mapping[str, str | int | None]


class AccessLog:
    """A CallListener that writes a line of each call to a file, or to standard output.

    Where calls come faster than they can be written, those beyond a bound are left out and counted,
    and the log says so. ``worker`` names this process where it is one of several, which may all
    write to one file.
    """

    def __init__(
        self, target: str, *, as_json: bool, worker: str = "", most_waiting: int = _MOST_WAITING
    ) -> None:
        self._target = target
        self._line: Callable[[_Fields], str] = json.dumps if as_json else _text
        self._worker = worker
        self._out = StandardOutput() if target == STDOUT else AppendedFile(target)
        self._calls: Queue[ObservedCall | None] = Queue(most_waiting)
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._lock = threading.Lock()
        self._dropped = self._dropped_told = self._lost_told = 0
        self._last_error = ""

    @property
    def dropped(self) -> int:
        """How many calls have no line because too many others waited for theirs."""
        return self._dropped

    @property
    def lost(self) -> int:
        """How many calls have no line because it could not be written."""
        return self._out.lost

    def start(self) -> None:
        """Begin to write. Raises InvalidArgument where the file can not be written to."""
        try:
            self._out.open()
        except OSError as error:
            raise InvalidArgument(
                f"access_log: can not write to {self._target}: {error.strerror}"
            ) from None
        self._thread.start()

    def stop(self, within_seconds: float = _SECONDS_TO_STOP) -> None:
        """Write what waits, then no more; given up where it takes longer than that."""
        until = time.monotonic() + within_seconds
        with suppress(Full):
            self._calls.put(None, timeout=within_seconds)
            self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            lost = self._calls.qsize()
            log.error("the access log does not end in time: about %d lines are lost", lost)
        else:
            self._out.close()

    def began(self, call: ObservedCall, metadata: RequestMetadata) -> None:
        """There is nothing to write yet."""

    def ended(self, call: ObservedCall) -> None:
        try:
            self._calls.put_nowait(call)
        except Full:
            with self._lock:
                self._dropped += 1

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            calls = self._waiting()
            goes_on = calls[-1] is not None
            try:
                self._write_lines_of([call for call in calls if call is not None])
            except Exception:
                log.exception("lines of the access log are lost; it goes on with the next ones")
            self._tell_what_lacks(is_last=not goes_on)

    def _write_lines_of(self, calls: Sequence[ObservedCall]) -> None:
        if calls:
            self._write([self._line(self._fields(call)) for call in calls])

    def _tell_what_lacks(self, *, is_last: bool) -> None:
        dropped = self._dropped
        if dropped > self._dropped_told:
            log.warning("the access log lacks %d calls: too many", dropped - self._dropped_told)
            self._dropped_told = dropped
        lost = self._out.lost
        if lost > self._lost_told and (is_last or not self._last_error):
            log.warning(
                "the access log lacks %d calls: they could not be written", lost - self._lost_told
            )
            self._lost_told = lost

    def _waiting(self) -> list[ObservedCall | None]:
        """At least one, at most so many at a time; None, last of all, where no more will come."""
        calls = [self._calls.get()]
        try:
            while calls[-1] is not None and len(calls) < _MOST_AT_ONCE:
                calls.append(self._calls.get_nowait())
        except Empty:
            pass
        return calls

    def _write(self, lines: list[str]) -> None:
        """What can not be written is left out; that is logged once as long as it is so.

        How many lines it were is logged when it is so no longer.
        """
        try:
            self._out.write("".join(f"{line}\n" for line in lines).encode())
        except (OSError, ValueError) as error:
            reason = str(error.strerror) if isinstance(error, OSError) else str(error)
            if reason != self._last_error:
                log.warning("access_log: can not write to %s: %s", self._target, reason)
            self._last_error = reason
        else:
            self._last_error = ""

    def _fields(self, call: ObservedCall) -> _Fields:
        arrival = call.arrival
        fields: dict[str, str | int | None] = {
            "time": rfc3339(call.began_time),
            "peer": arrival.peer,
            "protocol": arrival.protocol.value,
            "method": arrival.method,
            "path": arrival.path,
            "model": call.model_name,
            "version": call.version,
            "signature": call.signature_name,
            "code": call.code,
            "duration_us": round(((call.ended or call.began) - call.began) * 1e6),
            "bytes_in": call.request_bytes,
            "bytes_out": call.response_bytes,
            "request_id": call.request_id,
        }
        if call.trace is not None:
            fields["trace_id"] = call.trace.trace_id
        if self._worker:
            fields["worker"] = self._worker
        return {name: value for name, value in fields.items() if value not in {"", None}}


def _text(fields: _Fields) -> str:
    """The time, then ``name=value`` pairs; a value with anything unusual in it is a JSON string."""
    written = (f"{name}={_plain(str(value))}" for name, value in fields.items() if name != "time")
    return f"{fields['time']} {' '.join(written)}"


def _plain(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
