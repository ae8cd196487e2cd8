"""Counts and times calls of every method of gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.core.call import CallContext, TransportReply, UnaryHandler, WithMetadata, code_of
from serving.core.errors import Code, ServingError
from serving.metrics.families import OTHER
from serving.metrics.registry import Metrics
from serving.monitoring.bounds import CALL_SECONDS

_OK = Code.OK.name


class RpcMetrics:
    """Has calls counted by method and code, and timed: unary ones from request to answer, streams
    from their beginning to their end. Thread-safe.

    Methods are ``package.Service/Method``. A call that was given up counts as such when its answer
    comes, which nobody waits for any more.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.histogram(
            "model_server_rpc_duration_seconds",
            "gRPC calls by how they ended, from the request to the answer.",
            ("method", "code"),
            CALL_SECONDS,
        )
        self._in_progress = metrics.gauge(
            "model_server_rpcs_in_progress", "gRPC calls that are not answered yet.", ("method",)
        )

    def begun(self, path: str) -> Callable[[Code], None]:
        """Count a call that no unary handler gets, until what is returned is told how it ends.

        Without a ``path``, it is one of a method that there is not: all of them count together, as
        clients can name any number.
        """
        method = path.removeprefix("/") or OTHER
        in_progress = self._in_progress.cell(method).add
        began = time.perf_counter()
        in_progress(1)

        def ended(code: Code) -> None:
            in_progress(-1)
            self._seconds.observe(time.perf_counter() - began, method, code.name)

        return ended

    def measured(self, path: str, handler: UnaryHandler) -> UnaryHandler:
        """The handler with all its calls counted; ``path`` begins with a slash."""
        method = path.removeprefix("/")
        in_progress = self._in_progress.cell(method).add
        succeeded = self._seconds.cell(method, _OK).observe

        def failed(code: Code, began: float) -> None:
            in_progress(-1)
            self._seconds.observe(time.perf_counter() - began, method, code.name)

        def handle(request: bytes, context: CallContext, reply: TransportReply) -> None:
            began = time.perf_counter()
            in_progress(1)

            def answer(result: bytes | ServingError | WithMetadata) -> None:
                outcome = result.answer if isinstance(result, WithMetadata) else result
                code = code_of(outcome, context)
                if code is not Code.OK:
                    failed(code, began)
                else:
                    in_progress(-1)
                    succeeded(time.perf_counter() - began)
                reply(result)

            try:
                handler(request, context, answer)
            except ServingError as error:
                failed(error.code, began)
                raise
            except Exception:
                failed(Code.INTERNAL, began)
                raise

        return handle
