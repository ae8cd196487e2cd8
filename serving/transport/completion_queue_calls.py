"""Unary calls on grpcio's completion queue, each a small machine that events drive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from serving.core.call import CallContext, UnaryHandler, WithMetadata
from serving.core.cancellation import Cancellation
from serving.core.errors import Code, ServingError, Unimplemented
from serving.transport.completion_queue_operations import (
    answer,
    receive_close,
    receive_message,
    start_batch,
)
from serving.transport.grpc_engine import CallBegun
from serving.transport.ready_calls import ReadyCalls
from serving.transport.unary_call import answered_twice, call_handler

_FAR_SECONDS = 1e11  # gRPC says "no deadline" with a time far beyond


class OpenCalls(set["_OpenCall"]):
    """The calls that gRPC has not yet told the end of.

    Thread-safe as far as it is used: single operations of a set need no lock under the
    interpreter's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._when_empty: Callable[[], None] | None = None

    def over(self, call: _OpenCall) -> None:
        self.discard(call)
        if self._when_empty is not None and not self:
            self._when_empty()

    def when_empty(self, action: Callable[[], None]) -> None:
        """Once no call is open and none can come: at once, or when the last one is over."""
        self._when_empty = action
        if not self:
            action()


class _OpenCall(Protocol):
    def begin(self) -> None:
        """Start the first operations."""


class RefusedCall:
    """A call that gets an error and nothing else.

    It is open before it begins: it may be held until the server has shut down, whose queue must
    not go before it.
    """

    __slots__ = ("_call", "_error", "_open")

    def __init__(self, error: ServingError, open_calls: OpenCalls, arrival: Any) -> None:
        self._error = error
        self._call = arrival.call
        self._open = open_calls
        open_calls.add(self)

    def begin(self) -> None:
        call, self._call = self._call, None
        start_batch(call, (*answer(self._error), receive_close()), self._answered)

    def _answered(self, _event: Any) -> None:
        self._open.over(self)


class UnaryMethod(NamedTuple):
    """What all calls of one method share."""

    path: str
    handler: UnaryHandler
    context: Callable[[Any, Cancellation], CallContext]
    open_calls: OpenCalls
    ready: ReadyCalls
    begun: CallBegun


class UnaryCall(Cancellation):
    """One request, one answer. The handler is called when it is the call's turn among the ready.

    The usual call is answered by then: one batch more, and it is over. Only for one that is not,
    gRPC is asked to tell when its client gives up. The call is the Cancellation that its handler
    gets, so that nothing is made for those who never look at it.
    """

    __slots__ = (
        "_arrival",
        "_call",
        "_due",
        "_handling",
        "_lock",
        "_method",
        "_request",
        "_result",
    )

    def __init__(self, method: UnaryMethod, arrival: Any) -> None:
        self._method = method
        self._arrival = arrival  # None once handled
        self._call = arrival.call  # None once answered, or given up by the client
        self._request = b""
        self._lock = threading.Lock()
        self._handling = True
        self._result: bytes | ServingError | WithMetadata | None = None
        self._due = 0  # batches under way beside each other

    def begin(self) -> None:
        self._method.open_calls.add(self)
        start_batch(self._call, (receive_message(),), self._received)

    def reply(self, result: bytes | ServingError | WithMetadata) -> None:
        """The :data:`~serving.core.call.TransportReply` of this call."""
        with self._lock:
            if self._result is not None:
                answered_twice(self._method.path)
                return
            self._result = result
            if self._handling or self._call is None:
                return  # answered when the handler has returned; or nobody waits any more
            self._due += 1
            call, self._call = self._call, None
            start_batch(call, answer(result), self._sent)

    def _received(self, event: Any) -> None:
        request = event.batch_operations[0].message()
        if request is None:
            self._refuse(could_be_read=event.success)
        else:
            self._request = request
            self._method.ready.add(self)

    def _refuse(self, *, could_be_read: bool) -> None:
        """No request has come: its client ended or broke the call without one, or it was too large,
        which gRPC has told the client by now.
        """
        path = self._method.path
        ended = self._method.begun(path)
        error = Unimplemented(f'Method "{path}" requires exactly one request')

        def over(event: Any) -> None:
            if not could_be_read:
                ended(Code.RESOURCE_EXHAUSTED)
            else:
                given_up = event.batch_operations[-1].cancelled()
                ended(Code.CANCELLED if given_up else error.code)
            self._over(event)

        call, self._call = self._call, None
        start_batch(call, (*answer(error), receive_close()), over)

    def handle(self) -> bool:
        method = self._method
        arrival, self._arrival = self._arrival, None
        request, self._request = self._request, b""
        context = method.context(arrival, self)
        call_handler(method.path, method.handler, request, context, self.reply)
        if self._result is not None:
            return True
        with self._lock:
            if self._result is None:
                self._handling = False
                self._due = 1
                start_batch(self._call, (receive_close(),), self._closed)
                return False
        return True

    def answer(self) -> None:
        """Send what the handler has replied before it returned."""
        call, self._call = self._call, None
        start_batch(call, (*answer(self._result or b""), receive_close()), self._over)

    def _closed(self, _event: Any) -> None:
        """The call has ended. Before it is answered, that is because its client gave up or is gone,
        because its deadline has passed, or because the server stops: gRPC calls each of them
        cancelled.
        """
        with self._lock:
            self._call = None
            is_answered = self._result is not None
        if not is_answered:
            self.cancel()
        self._sent(_event)

    def _sent(self, _event: Any) -> None:
        with self._lock:
            self._due -= 1
            over = not self._due
        if over:
            self._over(_event)

    def _over(self, _event: Any) -> None:
        self._method.open_calls.over(self)


def call_context(arrival: Any, cancellation: Cancellation) -> CallContext:
    """What is known of a call that has arrived, but for its peer."""
    deadline = arrival.call_details.deadline
    if deadline > _FAR_SECONDS:
        return CallContext(None, arrival.invocation_metadata, cancellation)
    until = deadline - time.time() + time.monotonic()
    return CallContext(until, arrival.invocation_metadata, cancellation)


def call_context_with_peer(arrival: Any, cancellation: Cancellation) -> CallContext:
    """As :func:`call_context`, and who calls, which gRPC has to be asked for."""
    return call_context(arrival, cancellation)._replace(peer=arrival.call.peer().decode())
