"""gRPC on grpcio's completion queue: no thread waits for a call, one thread serves them all.

grpcio's public server hands every call from thread to thread, which costs several times what a
small model computes. This engine drives the queue below it, which grpcio itself is written on:
a call that arrives, a message that has come in and an answer that has gone out are events, and
each is dealt with on the thread that polls. Handlers are called once all events that are there
have been dealt with, see :mod:`serving.transport.ready_calls`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no stubs for it

from serving.core.clock import SystemClock
from serving.core.errors import ServingError, Unavailable, Unimplemented
from serving.transport.completion_queue_calls import (
    OpenCalls,
    RefusedCall,
    UnaryCall,
    UnaryMethod,
    call_context,
    call_context_with_peer,
)
from serving.transport.completion_queue_streams import StreamingCall
from serving.transport.grpc_engine import GrpcMethods
from serving.transport.grpc_options import GrpcOptions
from serving.transport.health import HEALTH
from serving.transport.polling_threads import PollingThreads
from serving.transport.ready_calls import ReadyCalls

_CALLS_REQUESTED_AHEAD = 64  # that many can arrive at once without waiting for each other
_REFUSAL_HOLD_SECONDS = 0.1  # in which a client that calls again and again has called once more
_SECONDS_TO_CANCEL = 5.0
_NOW = 0  # or any other time that has passed
_NOTHING_YET = cygrpc.CompletionType.queue_timeout
_STOPPING = Unavailable("the server is shutting down")
_UNKNOWN = Unimplemented("Method not found!")

_NewCall = Callable[[Any], UnaryCall | StreamingCall | RefusedCall]


class CompletionQueueEngine:
    """A GrpcEngine on ``grpc._cython.cygrpc``, an interface of grpcio that carries no promises.

    Handlers run on the polling thread and must return soon; they may reply from any thread. While
    one holds up the polling thread another takes its place, up to ``max_threads``.
    """

    def __init__(self, options: GrpcOptions, methods: GrpcMethods) -> None:
        self._calls = OpenCalls()
        self._ready = ReadyCalls(self._calls, SystemClock())
        self._new_calls = _new_calls(methods, self._calls, self._ready)
        self._begun = methods.begun
        # That the server stops is health's to say, too.
        self._health = frozenset(path for path in self._new_calls if HEALTH.encode() in path)
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(options.all_channel_arguments(), False)
        self._server.register_completion_queue(self._queue)
        self._threads = PollingThreads(self._poll, self._ready, options.max_threads, SystemClock())
        self._started = False
        # grpcio does not guard the server itself: destroyed twice, it takes the process with it.
        self._stopping = threading.Lock()
        self._refusal: _Refusal | None = None
        self._shut_down = threading.Event()

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        port = self._server.add_http2_port(address.encode(), *_known_to_cygrpc(credentials))
        if not port:
            raise RuntimeError(f"gRPC cannot listen on {address}")
        return int(port)

    def start(self) -> None:
        self._server.start()
        for _ in range(_CALLS_REQUESTED_AHEAD):
            self._request_call()
        self._threads.start()
        self._started = True

    def stop(self, grace_seconds: float) -> None:
        if not self._started:
            self.start()  # a server that never ran would keep the ports it has
        with self._stopping:
            if self._refusal is None:
                self._shut_down_after(min(_REFUSAL_HOLD_SECONDS, grace_seconds / 10))
        if not self._shut_down.wait(grace_seconds):
            with self._stopping:
                self._server.cancel_all_calls()
        # A handler that does not return keeps its call, and so the server, for as long.
        if self._shut_down.wait(_SECONDS_TO_CANCEL) and self._threads.join(_SECONDS_TO_CANCEL):
            with self._stopping:
                self._server.destroy()

    def _poll(self, wait: bool) -> Any:
        event = self._queue.poll(None if wait else _NOW)
        return None if event.completion_type == _NOTHING_YET else event

    def _request_call(self) -> None:
        self._server.request_call(self._queue, self._queue, self._arrived)

    def _arrived(self, event: Any) -> None:
        """A call has come; or, without success, none will, because the server shuts down."""
        if not event.success:
            return
        try:  # noqa: SIM105 - done for every call, and suppress() takes longer than the rest of it
            self._request_call()
        except ValueError:
            pass  # the server began to shut down at this moment
        path = event.call_details.method
        refusal = self._refusal
        if refusal is not None and path not in self._health:
            refusal.take(self._refused(_STOPPING, event))
        else:
            new_call = self._new_calls.get(path)
            call = new_call(event) if new_call else self._refused(_UNKNOWN, event)
            call.begin()

    def _refused(self, error: ServingError, arrival: Any) -> RefusedCall:
        self._begun(arrival.call_details.method.decode(errors="replace"))(error.code)
        return RefusedCall(error, self._calls, arrival)

    def _shut_down_after(self, hold_seconds: float) -> None:
        """Refuse calls from now on, and have gRPC tell clients to go that much later."""
        self._refusal = refusal = _Refusal()
        time.sleep(hold_seconds)
        self._server.shutdown(self._queue, self._is_shut_down)
        refusal.release()
        for call in list(self._calls):
            if isinstance(call, StreamingCall):
                call.end(_STOPPING)

    def _is_shut_down(self, _event: Any) -> None:
        # An operation begun on a queue that is shut down would end the process.
        self._calls.when_empty(self._queue.shutdown)
        self._shut_down.set()


class _Refusal:
    """Calls to be refused are held until gRPC shuts down, see :mod:`serving.transport.refusal`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[RefusedCall] | None = []

    def take(self, call: RefusedCall) -> None:
        with self._lock:
            if self._held is not None:
                self._held.append(call)
                return
        call.begin()

    def release(self) -> None:
        with self._lock:
            held, self._held = self._held or [], None
        for call in held:
            call.begin()


def _known_to_cygrpc(credentials: grpc.ServerCredentials | None) -> tuple[Any, ...]:
    # The form that cygrpc takes has no public name.
    return (credentials._credentials,) if credentials else ()  # type: ignore[attr-defined]  # noqa: SLF001


def _new_calls(
    methods: GrpcMethods, open_calls: OpenCalls, ready: ReadyCalls
) -> Mapping[bytes, _NewCall]:
    """How to make a call of each method, by its path."""
    new_calls: dict[bytes, _NewCall] = {}
    context = call_context_with_peer if methods.with_peer else call_context
    for path, handler in methods.unary.items():
        unary = UnaryMethod(path, handler, context, open_calls, ready, methods.begun)
        new_calls[path.encode()] = partial(UnaryCall, unary)
    for path, method in methods.streams.items():
        new_calls[path.encode()] = partial(StreamingCall, path, method, methods.begun, open_calls)
    return new_calls
