"""What is known of one call while it is on its way, for those who want to hear of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from serving.core.clock import Clock

log = logging.getLogger(__name__)


LONGEST_NAME = 256
"""Of what clients choose, so much is kept: many calls may wait to be written down."""


class Protocols(Enum):
    """What a client speaks."""

    GRPC = "gRPC"
    HTTP = "HTTP"


RequestMetadata = Iterable[tuple[str, str | bytes]]


class TraceIds(Protocol):
    """Which span of which trace a call is, in hexadecimal: 32 and 16 digits."""

    @property
    def trace_id(self) -> str: ...

    @property
    def span_id(self) -> str: ...


class CallListener(Protocol):
    """Hears of every call. Thread-safe and quick: it is called on the threads that work for calls.

    What it raises is logged and keeps the call from nobody.
    """

    def began(self, call: ObservedCall, metadata: RequestMetadata) -> None:
        """Who calls, and which method, is known; the model is not.

        ``metadata``, with lower-case keys, is of any size and not to be kept.
        """

    def ended(self, call: ObservedCall) -> None:
        """The answer has been given, or nobody waits for one."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the transport knows of a call that has come.

    ``method`` is the full path of a gRPC method, without the slash before it, or that of HTTP;
    ``path``, percent-encoded, and ``scheme`` are of HTTP alone. ``peer`` is ``host:port``, or a
    description where the client has none.
    """

    protocol: Protocols
    method: str
    peer: str
    path: str = ""
    scheme: str = ""


@dataclass(slots=True, eq=False)
class ObservedCall:
    """One call and its moments, in seconds on the clock's monotonic scale; None: did not come.

    Whoever works for it at the time writes; nobody writes at the same time as another, but for the
    parts of a request that a batch took apart, of which the first to begin counts. ``began_time``
    is the beginning in seconds since the epoch. ``route`` is the path of HTTP with names for what
    differs. ``version`` is the one that answers, before that the one asked for, if any. ``rows``
    are those of the request, ``batch_rows`` those that were computed together, for so many
    ``batch_requests``. ``lease_ended`` comes only where a load was waited for. ``code`` is the
    name of a canonical code, or the number of an HTTP status, empty while the call goes on.
    """

    arrival: Arrival
    request_id: str
    returns_request_id: bool
    began_time: float
    began: float
    clock: Clock = field(repr=False)
    listeners: Sequence[CallListener] = field(repr=False)
    trace: TraceIds | None = None
    route: str = ""
    model_name: str = ""
    version: int | None = None
    signature_name: str = ""
    rows: int | None = None
    batch_requests: int = 1
    batch_rows: int | None = None
    lease_began: float | None = None
    lease_ended: float | None = None
    queued: float | None = None
    run_began: float | None = None
    run_ended: float | None = None
    ended: float | None = None
    code: str = ""
    request_bytes: int = 0
    response_bytes: int = 0

    def now(self) -> float:
        """The time at which something of the call happens."""
        return self.clock.monotonic()

    def asks_for(self, model_name: str, version: int | None) -> None:
        """The model and version that the client names, of whatever length."""
        self.model_name = model_name[:LONGEST_NAME]
        self.version = version

    def run_begins(self, requests: int, rows: int | None) -> None:
        """A run begins that computes this call's outputs, and those of so many requests."""
        if self.run_began is None:
            self.run_began = self.now()
            self.batch_requests = requests
            self.batch_rows = rows

    def answered(self, code: str, response_bytes: int) -> None:
        """The answer is written. Only the first counts."""
        if self.ended is None:
            self.ended = self.now()
            self.code = code
            self.response_bytes = response_bytes

    def tell_began(self, metadata: RequestMetadata) -> None:
        for listener in self.listeners:
            try:
                listener.began(self, metadata)
            except Exception:
                log.exception("%r failed when a call began", listener)

    def tell_ended(self) -> None:
        for listener in self.listeners:
            try:
                listener.ended(self)
            except Exception:
                log.exception("%r failed when a call had ended", listener)


CURRENT_CALL: ContextVar[ObservedCall | None] = ContextVar("current_call", default=None)
"""The call that this thread, or task of an event loop, works for; None also where none is observed.
"""


@contextmanager
def working_for(call: ObservedCall | None) -> Iterator[None]:
    """What happens in the block, on this thread, is for ``call``; None: for nobody's."""
    token = CURRENT_CALL.set(call)
    try:
        yield
    finally:
        CURRENT_CALL.reset(token)


def calls_in_log(calls: Sequence[ObservedCall | None]) -> Mapping[str, Any]:
    """The ``extra`` of a log line that is about several calls."""
    return {"calls": [call for call in calls if call is not None]}
