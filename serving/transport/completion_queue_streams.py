"""Streaming calls on grpcio's completion queue, each a small machine that events drive."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from serving.core.errors import Code, Internal, ServingError
from serving.transport.completion_queue_calls import OpenCalls
from serving.transport.completion_queue_operations import (
    initial_metadata,
    receive_close,
    receive_message,
    send_message,
    start_batch,
    status,
)
from serving.transport.grpc_engine import CallBegun, StreamMethod

log = logging.getLogger(__name__)


class StreamingCall:
    """Messages both ways. The next request is received only when the one before is dealt with and
    its answers are taken, so that a client that does not read cannot fill the memory.

    It is the GrpcStream that the method answers to.
    """

    def __init__(
        self,
        path: str,
        method: StreamMethod,
        begun: CallBegun,
        open_calls: OpenCalls,
        arrival: Any,
    ) -> None:
        self._path = path
        self._method = method
        self._ended = begun(path)
        self._open = open_calls
        self._call = arrival.call  # None once its status is sent, or its client is gone
        self._lock = threading.Lock()
        self._due = 0  # batches under way beside each other
        self._begun = False  # initial metadata have been sent
        self._receiving = False  # until the request is dealt with
        self._sending = False
        self._answers: deque[bytes] = deque()
        self._status: Any = None  # what to end with, after the answers
        self._status_code = Code.OK  # the code of that
        self._code = Code.CANCELLED  # as what it has ended, unless it ends by a status

    def begin(self) -> None:
        self._open.add(self)
        with self._lock:
            self._start((receive_close(),), self._closed)
            self._receive()

    def send(self, response: bytes) -> None:
        with self._lock:
            if self._status is None:
                self._answers.append(response)
                self._go_on()

    def end(self, error: ServingError | None = None) -> None:
        with self._lock:
            if self._status is None:
                self._status = status(error)
                self._status_code = error.code if error else Code.OK
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

    def _closed(self, event: Any) -> None:
        with self._lock:
            self._call = None
            if event.batch_operations[0].cancelled():
                # Whatever was on its way to the client; but an error is why it has ended.
                is_ours = self._status_code is not Code.OK
                self._code = self._status_code if is_ours else Code.CANCELLED
        self._done()

    def _done(self, _event: Any = None) -> None:
        """A batch has ended: begin what comes next, or let go of a call that has ended."""
        with self._lock:
            self._due -= 1
            self._go_on()
            over = not self._due
        if over:
            self._method.over(self)
            self._ended(self._code)
            self._open.over(self)

    def _go_on(self) -> None:
        if self._call is None or self._sending:
            return
        if self._answers:
            self._sending = True
            message = send_message(self._answers.popleft())
            self._start((*self._initial_metadata(), message), self._sent)
        elif self._status is not None:
            self._code = self._status_code
            self._start((*self._initial_metadata(), self._status), self._done)
            self._call = None
        elif not self._receiving:
            self._receive()

    def _receive(self) -> None:
        self._receiving = True
        self._start((receive_message(),), self._received)

    def _initial_metadata(self) -> tuple[Any, ...]:
        begun, self._begun = self._begun, True
        return () if begun else (initial_metadata(),)

    def _start(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
        self._due += 1
        start_batch(self._call, operations, tag)
