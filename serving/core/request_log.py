"""What an API tells of the calls it has answered, where calls of a model are logged."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from serving.core.servable_id import ServableId

Payload = bytes | Callable[[], bytes]
"""A serialized message, or what makes it when it is written: not on the thread of the call."""


class LoggedVerb(enum.Enum):
    """What was asked for."""

    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    MULTI_INFERENCE = "multi-inference"


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call with its answer: messages of TensorFlow Serving's API, whichever API was called.

    ``servable_id`` is the version that answered; ``size_bytes`` is about what the payloads keep in
    memory until they are written.
    """

    verb: LoggedVerb
    servable_id: ServableId
    signature_name: str
    request: Payload
    response: Payload
    size_bytes: int


class CallLogger(Protocol):
    """Logs calls of one model. Thread-safe; neither method raises or blocks."""

    def is_sampled(self) -> bool:
        """Whether the call at hand is one of those to log; asked once for each."""

    def log(self, call: LoggedCall) -> None:
        """Log it soon, on another thread; or drop it, where too much waits."""


class CallLoggers:
    """The loggers in force, by model. A model without one costs its calls one look-up.

    ``by_model`` is replaced as a whole, never changed, so readers need no lock.
    """

    __slots__ = ("by_model",)

    def __init__(self) -> None:
        self.by_model: Mapping[str, CallLogger] = {}
