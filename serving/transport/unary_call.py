"""What every gRPC engine does with a unary call once it has the bytes: run the handler once."""

from __future__ import annotations

import logging
import threading

from serving.core.call import CallContext, TransportReply, UnaryHandler, WithMetadata
from serving.core.cancellation import Cancellation
from serving.core.errors import Internal, ServingError

log = logging.getLogger(__name__)


def call_handler(
    method: str, handler: UnaryHandler, request: bytes, context: CallContext, reply: TransportReply
) -> None:
    """Call the handler; what it raises becomes the reply, a defect one without its text."""
    try:
        handler(request, context, reply)
    except ServingError as error:
        reply(error)
    except Exception:
        log.exception("the handler of %s failed", method)
        reply(Internal("Internal server error"))


def answered_twice(method: str) -> None:
    """Say that a handler has a defect."""
    log.error("%s was answered twice; only the first answer counts", method)


class UnaryCall(Cancellation):
    """One call in progress: the first reply goes to ``send``, whoever gives it; no other does.

    Thread-safe. An engine abandons a call whose client is gone; replies are then dropped. The call
    is the Cancellation that its handler gets.
    """

    __slots__ = ("_abandoned", "_decided", "_method", "_send")

    def __init__(self, method: str, send: TransportReply) -> None:
        self._method = method
        self._send = send
        self._decided = threading.Lock()  # taken, once and for ever, by whoever decides the outcome
        self._abandoned = False

    def run(self, handler: UnaryHandler, request: bytes, context: CallContext) -> None:
        """Call the handler, which replies here."""
        call_handler(self._method, handler, request, context, self.reply)

    def reply(self, result: bytes | ServingError | WithMetadata) -> None:
        """The :data:`~serving.core.call.TransportReply` of this call."""
        if self._decided.acquire(blocking=False):
            self._send(result)
        elif not self._abandoned:
            answered_twice(self._method)

    def abandon(self) -> bool:
        """Nobody waits for a reply any more; whether that came before the reply, and cancels it."""
        self._abandoned = True
        if not self._decided.acquire(blocking=False):
            return False
        self.cancel()
        return True
