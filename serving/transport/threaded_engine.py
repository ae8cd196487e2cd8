"""gRPC on grpcio's public server: a thread of a pool for each call in progress."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import grpc

from serving.core.call import CallContext, Metadata, UnaryHandler, WithMetadata
from serving.core.cancellation import Cancellation
from serving.core.errors import Code, ServingError
from serving.transport.call_threads import CallThreads, OnPool
from serving.transport.grpc_engine import CallBegun, GrpcMethods, StreamMethod
from serving.transport.grpc_options import GrpcOptions
from serving.transport.health import HEALTH
from serving.transport.open_streams import OpenStreams
from serving.transport.refusal import Refusal
from serving.transport.status import grpc_status, trailing_metadata
from serving.transport.unary_call import UnaryCall

_REFUSAL_HOLD_SECONDS = 0.1  # in which a client that calls again and again has called once more
_NO_DEADLINE_SECONDS = 100 * 365 * 86400.0  # gRPC says "no deadline" with a far larger number

if TYPE_CHECKING:  # generic only for type checkers
    _Method = grpc.RpcMethodHandler[Any, Any]
_Behavior = Callable[[bytes, grpc.ServicerContext], bytes]
_Ended = Callable[[Code], object]
_Begun = Callable[[], _Ended]


class ThreadedEngine:
    """A GrpcEngine on ``grpc.server``.

    Each call holds one of ``max_threads`` threads until it is answered or its client is gone.
    Health, reflection and the methods that wait have threads of their own.
    Nobody is told of a call whose request is above gRPC's limit or does not come: grpcio calls a
    handler once it has the request, and one that took the requests as a stream would hear that none
    came, but not whether gRPC or the client has ended it.
    """

    def __init__(self, options: GrpcOptions, methods: GrpcMethods) -> None:
        self._streams = OpenStreams()
        self._threads = CallThreads(options.max_threads)
        self._refusal = Refusal(self._threads.refusal, methods.begun)
        handlers = {**self._unary(methods), **self._streaming(methods)}
        # Health comes before the refusal: that the server stops is health's to say, too.
        health = {path: handler for path, handler in handlers.items() if HEALTH in path}
        self._server = grpc.server(
            self._threads.calls,
            handlers=[
                _Methods(health),
                self._refusal,
                _Methods(handlers),
                _UnknownMethods(methods.begun),
            ],
            options=options.all_channel_arguments(),
        )
        self._started = False

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        if credentials is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, credentials)

    def start(self) -> None:
        self._started = True
        self._server.start()

    def stop(self, grace_seconds: float) -> None:
        if not self._started:
            self._server.start()  # a server that never ran would keep the ports it has
            self._server.stop(None)
            return
        hold_seconds = min(_REFUSAL_HOLD_SECONDS, grace_seconds / 10)
        self._refusal.begin(hold_seconds)
        self._streams.server_ends = True
        stopped = self._server.stop(grace_seconds - hold_seconds)
        self._refusal.release()
        self._streams.cancel()
        stopped.wait()
        self._threads.shutdown()

    def _unary(self, methods: GrpcMethods) -> dict[str, _Method]:
        handlers: dict[str, _Method] = {}
        for path, handler in methods.unary.items():
            behavior = _behavior(path, handler, with_peer=methods.with_peer)
            if path in methods.waiting:
                behavior = OnPool(behavior, self._threads.control)
            elif HEALTH in path:
                behavior = OnPool(behavior, self._threads.health)
            handlers[path] = grpc.unary_unary_rpc_method_handler(behavior)
        return handlers

    def _streaming(self, methods: GrpcMethods) -> dict[str, _Method]:
        return {
            path: self._stream(method, partial(methods.begun, path))
            for path, method in methods.streams.items()
        }

    def _stream(self, method: StreamMethod, begun: _Begun) -> _Method:
        behavior = _StreamBehavior(method, begun, self._streams, self._threads.senders)
        if method.one_request:
            pool = self._threads.health
            return grpc.unary_stream_rpc_method_handler(
                OnPool(behavior.one, pool, non_blocking=True)
            )
        pool = self._threads.reflection
        return grpc.stream_stream_rpc_method_handler(OnPool(behavior.many, pool, non_blocking=True))


class _Methods(grpc.GenericRpcHandler):
    """Finds a method's handler."""

    def __init__(self, handlers: Mapping[str, _Method]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Method | None:
        return self._handlers.get(handler_call_details.method)


class _UnknownMethods(grpc.GenericRpcHandler):
    """Tells of methods that no other handler knows; they are gRPC's to refuse."""

    def __init__(self, begun: CallBegun) -> None:
        self._begun = begun

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
        self._begun(handler_call_details.method)(Code.UNIMPLEMENTED)


class _Outcome:
    """Hands one result from the thread that replies to the thread that waits."""

    __slots__ = ("_missing", "result")

    def __init__(self) -> None:
        self.result: bytes | ServingError | WithMetadata | None = None
        self._missing = Lock()  # held until the result is there; a bare lock costs next to nothing
        self._missing.acquire()

    def put(self, result: bytes | ServingError | WithMetadata | None) -> None:
        self.result = result
        self._missing.release()

    def present(self) -> bool:
        return not self._missing.locked()

    def wait(self) -> None:
        self._missing.acquire()


def _behavior(method: str, handler: UnaryHandler, *, with_peer: bool) -> _Behavior:
    """The handler as grpcio calls it: on a pool thread, which waits for a reply from elsewhere."""

    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        outcome = _Outcome()
        call = UnaryCall(method, outcome.put)
        call.run(handler, request, _call_context(context, call, with_peer=with_peer))
        if not outcome.present():
            _wait(call, outcome, context)
        result = outcome.result
        metadata: Metadata = ()
        if isinstance(result, WithMetadata):
            result, metadata = result
        if isinstance(result, ServingError):
            metadata = (*trailing_metadata(result), *metadata)
        if metadata:
            context.set_trailing_metadata(metadata)
        if isinstance(result, ServingError):
            context.abort(*grpc_status(result))
        return result or b""

    return behave


def _wait(call: UnaryCall, outcome: _Outcome, context: grpc.ServicerContext) -> None:
    """Return when the call is answered, or its client has cancelled or run out of time."""

    def gone() -> None:
        if call.abandon():
            outcome.put(None)

    if not context.add_callback(gone):
        gone()
    outcome.wait()


def _call_context(
    context: grpc.ServicerContext, cancellation: Cancellation, *, with_peer: bool
) -> CallContext:
    remaining = context.time_remaining()
    has_deadline = remaining is not None and remaining < _NO_DEADLINE_SECONDS
    return CallContext(
        deadline=time.monotonic() + remaining if has_deadline else None,
        metadata=context.invocation_metadata(),
        cancellation=cancellation,
        peer=context.peer() if with_peer else "",
    )


_Send = Callable[[bytes | None], None]


class _StreamBehavior:
    """A StreamMethod as grpcio calls it; a stream of requests holds its thread until it ends."""

    def __init__(
        self, method: StreamMethod, begun: _Begun, streams: OpenStreams, senders: Executor
    ) -> None:
        self._method = method
        self._begun = begun
        self._streams = streams
        self._senders = senders

    def one(self, request: bytes, context: grpc.ServicerContext, send: _Send) -> None:
        """What follows the request comes at any time and must not wait for the client."""
        self._streams.add(context)
        stream = _QueuedStream(context, send, self._senders)
        ended = self._begun()
        self._method.requested(stream, request)
        self._call_when_over(context, stream, ended)

    def many(self, requests: Iterator[bytes], context: grpc.ServicerContext, send: _Send) -> None:
        """Waits until answers are taken, so that a client that does not read fills no memory."""
        self._streams.add(context)
        stream = _ThreadedStream(context, send)
        ended = self._begun()
        try:
            for request in requests:  # raises where its client has given up
                self._method.requested(stream, request)
            stream.end()
        finally:
            self._call_when_over(context, stream, ended)

    def _call_when_over(
        self, context: grpc.ServicerContext, stream: _ThreadedStream, ended: _Ended
    ) -> None:
        def over() -> None:
            self._method.over(stream)
            ended(self._given_up() if stream.code is None else stream.code)

        if not context.add_callback(over):
            over()

    def _given_up(self) -> Code:
        return Code.UNAVAILABLE if self._streams.server_ends else Code.CANCELLED


class _ThreadedStream:
    """A GrpcStream; sending waits until the message before is on its way.

    ``code``: as what it has ended, None as long as it was not ended here.
    """

    def __init__(self, context: grpc.ServicerContext, send: _Send) -> None:
        self.code: Code | None = None
        self._context = context
        self._send = send

    def send(self, response: bytes) -> None:
        self._send(response)

    def end(self, error: ServingError | None = None) -> None:
        self.code = error.code if error else Code.OK
        if error is not None:
            code, details = grpc_status(error)
            self._context.set_code(code)
            self._context.set_details(details)
        self._send(None)


class _QueuedStream(_ThreadedStream):
    """A GrpcStream; what waits until the client takes it does so on a thread of ``senders``."""

    def __init__(self, context: grpc.ServicerContext, send: _Send, senders: Executor) -> None:
        super().__init__(context, self._put)
        self._send_now = send
        self._senders = senders
        self._lock = Lock()
        self._unsent: deque[bytes | None] = deque()
        self._sending = False

    def _put(self, response: bytes | None) -> None:
        with self._lock:
            self._unsent.append(response)
            is_first = not self._sending
            self._sending = True
        if is_first:
            with suppress(RuntimeError):  # the server has stopped
                self._senders.submit(self._send_all)

    def _send_all(self) -> None:
        while True:
            with self._lock:
                self._sending = bool(self._unsent)
                if not self._sending:
                    return
                response = self._unsent.popleft()
            self._send_now(response)
