"""The gRPC server. Which engine carries the calls is this file's secret: grpcio's own threads."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import grpc

from serving.core.call import CallContext, UnaryHandler
from serving.core.errors import InvalidArgument, ServingError, Unavailable
from serving.transport.call_threads import CallThreads, OnPool
from serving.transport.health import HEALTH, Health
from serving.transport.open_streams import OpenStreams
from serving.transport.reflection import reflection_handlers
from serving.transport.refusal import Refusal
from serving.transport.status import grpc_status
from serving.transport.tls import TlsOptions, check_credentials, server_credentials
from serving.transport.unary_call import UnaryCall

log = logging.getLogger(__name__)

_INT32_MAX = 2**31 - 1
_CHANNEL_ARGUMENTS: Mapping[str, int | str] = {
    "grpc.max_send_message_length": _INT32_MAX,
    "grpc.max_receive_message_length": _INT32_MAX,
    # Otherwise a second server on the same port would start, and take half of the calls.
    "grpc.so_reuseport": 0,
}
_REFUSAL_HOLD_SECONDS = 0.1  # in which a client that calls again and again has called once more
_Behavior = Callable[[bytes, grpc.ServicerContext], bytes]
_NO_DEADLINE_SECONDS = 100 * 365 * 86400.0  # gRPC says "no deadline" with a far larger number


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Where and how to listen. ``address`` is ``host:port`` (port 0: the system picks), or empty.

    ``channel_arguments`` come on top of the server's own. Raises InvalidArgument when there is
    nothing to listen on or no thread to answer.
    """

    address: str = "0.0.0.0:8500"
    socket_path: str = ""
    max_threads: int = 8
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    tls: TlsOptions | None = None
    health_service: bool = False

    def __post_init__(self) -> None:
        if not self.address and not self.socket_path:
            raise InvalidArgument(
                "At least one of server_options.grpc_port or server_options.grpc_socket_path"
                " must be set."
            )
        if self.max_threads < 1:
            raise InvalidArgument(f"grpc_max_threads must be at least 1, not {self.max_threads}")


class GrpcServer:
    """Serves unary methods by their full path, ``/package.Service/Method``, with reflection.

    Each call holds one of ``max_threads`` threads until it is answered or its client is gone.
    Health, reflection and the methods named in ``waiting``, whose calls may take minutes, have
    threads of their own. Thread-safe.
    """

    def __init__(
        self,
        options: GrpcOptions,
        methods: Mapping[str, UnaryHandler],
        *,
        waiting: Collection[str] = frozenset(),
    ) -> None:
        self._options = options
        self._port: int | None = None
        self._streams = OpenStreams()
        self._threads = CallThreads(options.max_threads)
        self._refusal = Refusal(self._threads.refusal)
        self._health = Health(self._streams) if options.health_service else None
        self._server = grpc.server(
            self._threads.calls,
            handlers=self._handlers(methods, waiting),
            options=list({**_CHANNEL_ARGUMENTS, **dict(options.channel_arguments)}.items()),
        )

    @property
    def port(self) -> int | None:
        """The TCP port listened on; None before the start and without TCP."""
        return self._port

    def start(self) -> None:
        """Listen and serve. Raises Unavailable, naming the address, where it cannot listen."""
        try:
            self._listen()
        except ServingError:
            self._server.start()  # a server that never ran would keep the ports it has
            self._server.stop(None)
            raise
        self._server.start()
        if self._options.address:
            log.info("Running gRPC ModelServer at %s ...", self._bound_address())
        if self._options.socket_path:
            log.info("Running gRPC ModelServer at UNIX socket %s ...", self._options.socket_path)

    def set_serving(self, serving: bool) -> None:
        """What the health service answers, if it is offered; until the first call NOT_SERVING."""
        if self._health:
            self._health.set_serving(serving)

    def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let those in progress end within the grace, cancel the others.

        Calls that come during the stop end as UNAVAILABLE, which clients retry. Returns when no
        call is left. A second call from another thread may shorten the grace.
        """
        self.set_serving(False)
        hold_seconds = min(_REFUSAL_HOLD_SECONDS, grace_seconds / 10)
        self._refusal.begin(hold_seconds)
        stopped = self._server.stop(grace_seconds - hold_seconds)
        self._refusal.release()
        self._streams.cancel()
        stopped.wait()
        self._threads.shutdown()

    def _handlers(
        self, methods: Mapping[str, UnaryHandler], waiting: Collection[str]
    ) -> list[grpc.GenericRpcHandler]:
        services = sorted({method.split("/")[1] for method in methods})
        behaviors = {path: _behavior(path, handler) for path, handler in methods.items()}
        for path in waiting:
            behaviors[path] = OnPool(behaviors[path], self._threads.control)
        handlers: list[grpc.GenericRpcHandler] = []
        if self._health:  # before the refusal: that the server stops is health's to say, too
            handlers.append(self._health.handler(self._threads.health))
            services.append(HEALTH)
        reflection = reflection_handlers(services, self._streams, self._threads.reflection)
        return [*handlers, self._refusal, _UnaryMethods(behaviors), *reflection]

    def _bound_address(self) -> str:
        return f"{self._options.address.rpartition(':')[0]}:{self._port}"

    def _listen(self) -> None:
        tls = self._options.tls
        credentials = server_credentials(tls) if tls else None
        if self._options.address:
            self._port = self._add_port(self._options.address, credentials)
        if self._options.socket_path:
            _refuse_live_socket(self._options.socket_path)
            self._add_port(f"unix:{self._options.socket_path}", credentials)

    def _add_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError:
            if credentials is not None:
                check_credentials(credentials)
            raise Unavailable(
                f"gRPC cannot listen on {address}: it is in use, or is not an address of this host"
            ) from None


class _UnaryMethods(grpc.GenericRpcHandler):
    """Finds a method's handler; an unknown method is gRPC's to refuse, with UNIMPLEMENTED."""

    def __init__(self, behaviors: Mapping[str, _Behavior]) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            path: grpc.unary_unary_rpc_method_handler(behavior)
            for path, behavior in behaviors.items()
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._handlers.get(handler_call_details.method)


class _Outcome:
    """Hands one result from the thread that replies to the thread that waits."""

    __slots__ = ("_missing", "result")

    def __init__(self) -> None:
        self.result: bytes | ServingError | None = None
        self._missing = Lock()  # held until the result is there; a bare lock costs next to nothing
        self._missing.acquire()

    def put(self, result: bytes | ServingError | None) -> None:
        self.result = result
        self._missing.release()

    def present(self) -> bool:
        return not self._missing.locked()

    def wait(self) -> None:
        self._missing.acquire()


def _behavior(method: str, handler: UnaryHandler) -> _Behavior:
    """The handler as grpcio calls it: on a pool thread, which waits for a reply from elsewhere."""

    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        outcome = _Outcome()
        call = UnaryCall(method, outcome.put)
        call.run(handler, request, _call_context(context))
        if not outcome.present():
            _wait(call, outcome, context)
        if isinstance(outcome.result, ServingError):
            context.abort(*grpc_status(outcome.result))
        return outcome.result or b""

    return behave


def _wait(call: UnaryCall, outcome: _Outcome, context: grpc.ServicerContext) -> None:
    """Return when the call is answered, or its client has cancelled or run out of time."""

    def gone() -> None:
        if call.abandon():
            outcome.put(None)

    if not context.add_callback(gone):
        gone()
    outcome.wait()


def _call_context(context: grpc.ServicerContext) -> CallContext:
    remaining = context.time_remaining()
    has_deadline = remaining is not None and remaining < _NO_DEADLINE_SECONDS
    return CallContext(
        deadline=time.monotonic() + remaining if has_deadline else None,
        metadata=context.invocation_metadata(),
    )


def _refuse_live_socket(path: str) -> None:
    """Raise Unavailable when a process listens on the socket.

    gRPC replaces any socket file, so that one left behind by a process that died is taken over;
    one in use must not be.
    """
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise Unavailable(f"gRPC cannot listen on unix:{path}: another process listens on it")
