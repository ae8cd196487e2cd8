"""Calls as they are when they have ended, for those who listen."""

from __future__ import annotations

from typing import Any

from serving.core.call_observer import CallObserver
from serving.core.observed_call import Arrival, CallListener, ObservedCall, Protocols
from serving.testing import FakeClock

PREDICT = "tensorflow.serving.PredictionService/Predict"


GRPC = Arrival(Protocols.GRPC, PREDICT, "127.0.0.1:5000")
HTTP = Arrival(Protocols.HTTP, "POST", "[::1]:5000", "/v1/models/m:predict", "http")


def ended_call(
    listener: CallListener,
    *metadata: tuple[str, str],
    arrival: Arrival = GRPC,
    code: str = "OK",
    start: float = 1_700_000_000.0,
    **facts: Any,
) -> ObservedCall:
    """A call that began at ``start`` and took 1.5 ms, with these facts; it is told."""
    clock = FakeClock(start)
    observer = CallObserver([listener], clock, returns_request_ids=True)
    call = observer.begin(arrival, metadata)
    for name, value in facts.items():
        setattr(call, name, value)
    clock.advance(0.0015)
    call.answered(code, facts.get("response_bytes", 0))
    call.tell_ended()
    return call
