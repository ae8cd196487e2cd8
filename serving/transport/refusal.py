"""What a gRPC server that stops answers to the calls that still come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Never

import grpc

from serving.core.errors import Code, Unavailable
from serving.transport.call_threads import OnPool
from serving.transport.grpc_engine import CallBegun
from serving.transport.status import grpc_status


class Refusal(grpc.GenericRpcHandler):
    """Takes every call from the handlers behind it once it has begun, and answers UNAVAILABLE.

    gRPC itself cancels what arrives, or waits for the server to look at it, when it shuts down,
    and clients do not retry what is cancelled. So answers are held until it shuts down: a client
    that waits for one sends nothing at that moment, and is told to connect elsewhere before it
    gets it. What a client happens to send before it hears of that is still CANCELLED: gRPC has no
    way to tell clients first and shut down after. Thread-safe.
    """

    def __init__(self, pool: ThreadPoolExecutor, call_begun: CallBegun) -> None:
        self._call_begun = call_begun
        self._begun = False
        self._released = threading.Event()
        # As a stream of requests, because a thread would first wait for the one request.
        self._handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(
            OnPool(self._refuse, pool)
        )

    def begin(self, hold_seconds: float) -> None:
        """Take the calls that come from now on; return that much later, or once released."""
        self._begun = True
        self._released.wait(hold_seconds)

    def release(self) -> None:
        """Answer what has been held, and from now on at once."""
        self._released.set()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if not self._begun:
            return None
        self._call_begun(handler_call_details.method)(Code.UNAVAILABLE)
        return self._handler

    def _refuse(self, _requests: object, context: grpc.ServicerContext) -> Never:
        self._released.wait()
        context.abort(*grpc_status(Unavailable("the server is shutting down")))
