"""Calls on grpcio's completion queue, each a small machine that events drive.

An operation holds memory of gRPC's: it belongs to one call and is never used twice. gRPC keeps a
call's memory as long as a batch of its operations is under way or somebody holds the call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no stubs for it

from serving.core.call import CallContext, UnaryHandler
from serving.core.errors import Internal, ServingError, Unimplemented
from serving.transport.grpc_engine import StreamMethod
from serving.transport.ready_calls import ReadyCalls
from serving.transport.status import grpc_status
from serving.transport.unary_call import answered_twice, call_handler

log = logging.getLogger(__name__)

_ReceiveMessage = cygrpc.ReceiveMessageOperation
_ReceiveClose = cygrpc.ReceiveCloseOnServerOperation
_SendInitialMetadata = cygrpc.SendInitialMetadataOperation
_SendMessage = cygrpc.SendMessageOperation
_SendStatus = cygrpc.SendStatusFromServerOperation

_NO_FLAGS = 0
_FAR_SECONDS = 1e11  # gRPC says "no deadline" with a time far beyond
_OK = int(cygrpc.StatusCode.ok)


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

    def streams(self) -> list[StreamingCall]:
        return [call for call in list(self) if isinstance(call, StreamingCall)]


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
        _start(call, (*_answer(self._error), _receive_close()), self._answered)

    def _answered(self, _event: Any) -> None:
        self._open.over(self)


class UnaryMethod(NamedTuple):
    """What all calls of one method share."""

    path: str
    handler: UnaryHandler
    open_calls: OpenCalls
    ready: ReadyCalls


class UnaryCall:
    """One request, one answer. The handler is called when it is the call's turn among the ready.

    The usual call is answered by then: one batch more, and it is over. Only for one that is not,
    gRPC is asked to tell when its client gives up.
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
        self._request: bytes | None = None
        self._lock = threading.Lock()
        self._handling = True
        self._result: bytes | ServingError | None = None
        self._due = 0  # batches under way beside each other

    def begin(self) -> None:
        self._method.open_calls.add(self)
        _start(self._call, (_ReceiveMessage(_NO_FLAGS),), self._received)

    def reply(self, result: bytes | ServingError) -> None:
        """The :data:`~serving.core.call.Reply` of this call."""
        with self._lock:
            if self._result is not None:
                answered_twice(self._method.path)
                return
            self._result = result
            if self._handling or self._call is None:
                return  # answered when the handler has returned; or nobody waits any more
            self._due += 1
            call, self._call = self._call, None
            _start(call, _answer(result), self._sent)

    def _received(self, event: Any) -> None:
        self._request = event.batch_operations[0].message()
        self._method.ready.add(self)

    def handle(self) -> bool:
        method = self._method
        arrival, self._arrival = self._arrival, None
        request, self._request = self._request, None
        if request is None:  # its client closed or broke the call without one
            self.reply(Unimplemented(f'Method "{method.path}" requires exactly one request'))
        else:
            call_handler(method.path, method.handler, request, _context(arrival), self.reply)
        if self._result is not None:
            return True
        with self._lock:
            if self._result is None:
                self._handling = False
                self._due = 1
                _start(self._call, (_receive_close(),), self._closed)
                return False
        return True

    def answer(self) -> None:
        """Send what the handler has replied before it returned."""
        call, self._call = self._call, None
        _start(call, (*_answer(self._result or b""), _receive_close()), self._over)

    def _closed(self, _event: Any) -> None:
        """The call has ended: before it is answered, because its client gave up or was too late."""
        with self._lock:
            self._call = None
        self._sent(_event)

    def _sent(self, _event: Any) -> None:
        with self._lock:
            self._due -= 1
            over = not self._due
        if over:
            self._over(_event)

    def _over(self, _event: Any) -> None:
        self._method.open_calls.over(self)


def _context(arrival: Any) -> CallContext:
    deadline = arrival.call_details.deadline
    if deadline > _FAR_SECONDS:
        return CallContext(None, arrival.invocation_metadata)
    return CallContext(deadline - time.time() + time.monotonic(), arrival.invocation_metadata)


class StreamingCall:
    """Messages both ways. The next request is received only when the one before is dealt with and
    its answers are taken, so that a client that does not read cannot fill the memory.

    It is the GrpcStream that the method answers to.
    """

    def __init__(
        self, path: str, method: StreamMethod, open_calls: OpenCalls, arrival: Any
    ) -> None:
        self._path = path
        self._method = method
        self._open = open_calls
        self._call = arrival.call  # None once its status is sent, or its client is gone
        self._lock = threading.Lock()
        self._due = 0  # batches under way beside each other
        self._begun = False  # initial metadata have been sent
        self._receiving = False  # until the request is dealt with
        self._sending = False
        self._answers: deque[bytes] = deque()
        self._status: Any = None  # what to end with, after the answers

    def begin(self) -> None:
        self._open.add(self)
        with self._lock:
            self._start((_receive_close(),), self._closed)
            self._receive()

    def send(self, response: bytes) -> None:
        with self._lock:
            if self._status is None:
                self._answers.append(response)
                self._go_on()

    def end(self, error: ServingError | None = None) -> None:
        with self._lock:
            if self._status is None:
                self._status = _status(error)
                self._go_on()

    def _received(self, event: Any) -> None:
        request = event.batch_operations[0].message()
        if request is not None:
            self._deal_with(request)
        elif not self._method.one_request:
            self.end()
        with self._lock:
            self._receiving = request is None or self._method.one_request
        self._done()

    def _deal_with(self, request: bytes) -> None:
        try:
            self._method.requested(self, request)
        except Exception:
            log.exception("the handler of %s failed", self._path)
            self.end(Internal("Internal server error"))

    def _sent(self, _event: Any) -> None:
        with self._lock:
            self._sending = False
        self._done()

    def _closed(self, _event: Any) -> None:
        with self._lock:
            self._call = None
        self._done()

    def _done(self, _event: Any = None) -> None:
        """A batch has ended: begin what comes next, or let go of a call that has ended."""
        with self._lock:
            self._due -= 1
            self._go_on()
            over = not self._due
        if over:
            self._method.over(self)
            self._open.over(self)

    def _go_on(self) -> None:
        if self._call is None or self._sending:
            return
        if self._answers:
            self._sending = True
            message = _SendMessage(self._answers.popleft(), _NO_FLAGS)
            self._start((*self._initial_metadata(), message), self._sent)
        elif self._status is not None:
            self._start((*self._initial_metadata(), self._status), self._done)
            self._call = None
        elif not self._receiving:
            self._receive()

    def _receive(self) -> None:
        self._receiving = True
        self._start((_ReceiveMessage(_NO_FLAGS),), self._received)

    def _initial_metadata(self) -> tuple[Any, ...]:
        begun, self._begun = self._begun, True
        return () if begun else (_initial_metadata(),)

    def _start(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
        self._due += 1
        _start(self._call, operations, tag)


def _start(call: Any, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
    """Have gRPC do all the operations of one batch, and deliver one event with this tag."""
    error = call.start_server_batch(operations, tag)
    if error:
        raise RuntimeError(f"gRPC refused a batch of operations: error {error}")


def _answer(result: bytes | ServingError) -> tuple[Any, ...]:
    if isinstance(result, ServingError):
        return (_initial_metadata(), _status(result))
    return (
        _SendInitialMetadata(None, _NO_FLAGS),
        _SendMessage(result, _NO_FLAGS),
        _SendStatus(None, _OK, b"", _NO_FLAGS),
    )


def _initial_metadata() -> Any:
    return _SendInitialMetadata(None, _NO_FLAGS)


def _receive_close() -> Any:
    return _ReceiveClose(_NO_FLAGS)


def _status(error: ServingError | None) -> Any:
    if error is None:
        return _SendStatus(None, _OK, b"", _NO_FLAGS)
    code, details = grpc_status(error)
    return _SendStatus(None, code.value[0], details.encode(), _NO_FLAGS)
