"""One unary call as an API sees it: request bytes in, a callback out, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from serving.core.cancellation import Cancellation
from serving.core.errors import Code, ServingError


class CallContext(NamedTuple):
    """What the transport knows of a call. ``deadline`` is a point in monotonic seconds, or None.

    ``cancellation`` comes when the call has ended without an answer: its client gave it up or is
    gone, its deadline has passed, or the server stops. It does not come while the handler runs.
    None where the transport cannot tell. ``peer`` is the client's address as gRPC writes it, empty
    unless the transport was asked for it.
    """

    deadline: float | None = None
    metadata: Sequence[tuple[str, str | bytes]] = ()
    cancellation: Cancellation | None = None
    peer: str = ""


Metadata = tuple[tuple[str, str], ...]


class WithMetadata(NamedTuple):
    """An answer, and the metadata that follow it to the client."""

    answer: bytes | ServingError
    metadata: Metadata


Reply = Callable[[bytes | ServingError], None]
"""Ends a call with the response bytes or an error: exactly once, from any thread."""

TransportReply = Callable[[bytes | ServingError | WithMetadata], None]
"""The Reply that a transport offers."""

UnaryHandler = Callable[[bytes, CallContext, TransportReply], None]
"""Answers one call. May raise instead of replying, but never after having replied."""


def code_of(answer: bytes | ServingError, context: CallContext) -> Code:
    """What the client is told; what gRPC tells it where the call has been given up by now."""
    if context.cancellation is not None and context.cancellation.cancelled:
        is_late = context.deadline is not None and monotonic() >= context.deadline
        return Code.DEADLINE_EXCEEDED if is_late else Code.CANCELLED
    return answer.code if isinstance(answer, ServingError) else Code.OK
