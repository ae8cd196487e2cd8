"""Begins the record of every call that is observed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from serving.core.clock import Clock
from serving.core.observed_call import Arrival, CallListener, ObservedCall, RequestMetadata

REQUEST_ID = "x-request-id"
"""The key of gRPC metadata, and the HTTP header, of requests and of responses."""

_SANE = re.compile(r"[\w.:/+=@,~-]{1,128}", re.ASCII)


class CallObserver:
    """Makes an :class:`ObservedCall` of each call and tells the listeners. Thread-safe.

    A call's id is the one that its client sent, where that is up to 128 characters of those common
    in ids, else a new one. It goes back to clients that sent any, and with ``returns_request_ids``
    to all.
    """

    def __init__(
        self, listeners: Sequence[CallListener], clock: Clock, *, returns_request_ids: bool
    ) -> None:
        self._listeners = tuple(listeners)
        self._clock = clock
        self._returns_request_ids = returns_request_ids

    def begin(self, arrival: Arrival, metadata: RequestMetadata) -> ObservedCall:
        """The record of a call that has come; the listeners know of it."""
        sent = _sent_id(metadata)
        call = ObservedCall(
            arrival,
            request_id=sent if sent and _SANE.fullmatch(sent) else os.urandom(16).hex(),
            returns_request_id=self._returns_request_ids or sent is not None,
            began_time=self._clock.time(),
            began=self._clock.monotonic(),
            clock=self._clock,
            listeners=self._listeners,
        )
        call.tell_began(metadata)
        return call


def _sent_id(metadata: RequestMetadata) -> str | None:
    for key, value in metadata:
        if key == REQUEST_ID:
            return str(value)
    return None
