"""gRPC calls as Ray makes them: coroutines on an event loop, with a context that is sent back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

import grpc

from serving.core.call import CallContext, UnaryHandler, WithMetadata
from serving.core.errors import ServingError
from serving.transport.status import grpc_status, trailing_metadata
from serving.transport.unary_call import UnaryCall


class Message(Protocol):
    """A request as Ray's proxy parsed it."""

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        """The bytes of the wire."""


class GrpcContext(Protocol):
    """What Ray tells of a call, and is told of its end: its RayServegRPCContext."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]: ...
    def peer(self) -> str: ...
    def set_code(self, code: grpc.StatusCode) -> None: ...
    def set_details(self, details: str) -> None: ...
    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None: ...


class Answer(NamedTuple):
    """The bytes of a response, as Ray takes them. Empty beside a status that is not OK."""

    data: bytes = b""

    def SerializeToString(self) -> bytes:  # noqa: N802  # Ray calls it
        return self.data


_Result = bytes | ServingError | WithMetadata


class ReplicaCalls:
    """Answers calls by the handlers of a server. For one event loop.

    Handlers run on ``threads``, since a model may run in them and the loop has to carry every call.
    None of these threads waits for an answer: calls that are joined into a batch hold none.
    """

    def __init__(self, methods: Mapping[str, UnaryHandler], threads: Executor) -> None:
        self._methods = methods
        self._threads = threads

    async def answer(self, path: str, request: bytes | Message, context: GrpcContext) -> Answer:
        """The answer to a call of the method at ``path``.

        An error becomes the status of ``context`` and is not raised, as Ray would log its trace.
        When the coroutine is cancelled, which Ray does for clients that are gone or whose deadline
        has passed, the work is told that nobody waits for it.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[_Result] = loop.create_future()

        def send(result: _Result) -> None:
            loop.call_soon_threadsafe(_set_result, answered, result)

        call = UnaryCall(path, send)
        data = request if isinstance(request, bytes) else request.SerializeToString()
        told = CallContext(None, context.invocation_metadata(), call, context.peer())
        handled = loop.run_in_executor(self._threads, call.run, self._methods[path], data, told)
        try:
            return _end(await answered, context)
        except asyncio.CancelledError:
            # Not while the handler runs, which counts on that.
            handled.add_done_callback(lambda _: call.abandon())
            raise


def _set_result(answered: asyncio.Future[_Result], result: _Result) -> None:
    if not answered.done():  # it is cancelled with its call
        answered.set_result(result)


def _end(result: _Result, context: GrpcContext) -> Answer:
    answer, metadata = result if isinstance(result, WithMetadata) else (result, ())
    if isinstance(answer, ServingError):
        code, details = grpc_status(answer)
        context.set_code(code)
        context.set_details(details)
        metadata = (*trailing_metadata(answer), *metadata)
        answer = b""
    if metadata:
        context.set_trailing_metadata(list(metadata))
    return Answer(answer)
