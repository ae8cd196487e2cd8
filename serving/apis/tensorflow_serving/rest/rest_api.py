"""The REST gateway of TensorFlow Serving's API, version 1, as an ASGI application."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.body import inflate, receive_body
from serving.apis.tensorflow_serving.rest.classify import classify, regress
from serving.apis.tensorflow_serving.rest.json_document import JsonObject, read_object
from serving.apis.tensorflow_serving.rest.metadata import metadata_body
from serving.apis.tensorflow_serving.rest.predict import predict
from serving.apis.tensorflow_serving.rest.routes import Route, find_route, is_api
from serving.apis.tensorflow_serving.rest.status import status_body
from serving.apis.tensorflow_serving.rest.verb import Verb, WriteBody
from serving.apis.tensorflow_serving.rest.waiting_client import WaitingClient
from serving.core.cancellation import Cancellation
from serving.core.clock import Clock, SystemClock
from serving.core.errors import Code, InvalidArgument, ServingError, Unavailable, Unimplemented
from serving.core.models import Models, ModelSpec
from serving.core.priority import Priority, requested_priority
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.inference.attempt import attempt
from serving.inference.model_metadata import SIGNATURE_DEF, ModelMetadata, model_metadata
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import Call, RequestMetrics

_VERBS: dict[str, Verb] = {"predict": predict, "classify": classify, "regress": regress}

_JSON = "application/json"
_WEB_ORIGIN = re.compile("https?://")
_CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_NOT_FOUND_PAGE = (
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
    b"</BODY></HTML>\n"
)


_Reply = Callable[[bytes | ServingError], None]


class _Request(NamedTuple):
    """``receive`` has given the body, and has nothing to give but the news of a disconnection."""

    headers: Headers
    body: bytes
    receive: Receive

    def content(self) -> bytes:
        is_gzip = "gzip" in self.headers.get("content-encoding", "").lower()
        return inflate(self.body) if is_gzip else self.body


@dataclass(frozen=True, slots=True)
class _Answer:
    code: Code
    body: bytes = b""
    media_type: str | None = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class RestApi:
    """``/v1/models/…`` over the models of a server.

    Reading a body, running and writing the answer happen on ``executor``; the event loop only
    moves bytes. A request holds one lease, for its look-up of the signature and its run.
    ``timeout_seconds`` bounds the wait for a load and the run (None or 0: no bound). With
    ``cors``, pages of any origin may read the responses. ``check_method_name`` refuses signatures
    whose method_name does not fit the call. ``honor_priorities`` runs requests with the priority
    that their header asks for; without it that header is not read.

    A client that disconnects cancels the run it waits for, and so does the end of the time that a
    stop leaves.
    """

    def __init__(
        self,
        models: Models,
        *,
        executor: Executor,
        timeout_seconds: float | None = 30,
        cors: bool = False,
        check_method_name: bool = False,
        honor_priorities: bool = False,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._models = models
        self._executor = executor
        self._timeout_seconds = timeout_seconds
        self._headers = _CORS_HEADERS if cors else None
        self._check_method_name = check_method_name
        self._honor_priorities = honor_priorities
        self._request_metrics = RequestMetrics(metrics or Metrics())
        self._clock = clock or SystemClock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise Unimplemented(f"the REST API does not speak {scope['type']}")
        body = await receive_body(receive)
        if body is None:
            return
        target = _target(scope)
        if not is_api(target):
            await Response(_NOT_FOUND_PAGE, 404, media_type="text/html")(scope, receive, send)
            return
        began = self._request_metrics.begun()
        request = _Request(Headers(scope=scope), body, receive)
        route, answer = await self._answer(scope["method"], target, request)
        model_name = route.spec.name if route else ""
        call = Call(route.verb if route and route.verb in _VERBS else "", "REST")
        self._request_metrics.answered(model_name, call, answer.code.name, began)
        headers = {**(self._headers or {}), **answer.headers}
        response = Response(answer.body, answer.code.http_status, headers, answer.media_type)
        await response(scope, receive, send)

    async def _answer(
        self, method: str, target: str, request: _Request
    ) -> tuple[Route | None, _Answer]:
        """The answer, and the call that the target names, if it names one."""
        if method == "OPTIONS":
            return None, _preflight(request.headers.get("origin", ""))
        try:
            route = find_route(method, target)
        except InvalidArgument as error:
            return None, _Answer(error.code)  # as clients know it: a refusal without a text
        if route is None:
            return None, _error(InvalidArgument(f"Malformed request: {method} {target}"))
        outcome = await self._outcome(route, request)
        answer = _error(outcome) if isinstance(outcome, ServingError) else _Answer(Code.OK, outcome)
        return route, answer

    async def _outcome(self, route: Route, request: _Request) -> bytes | ServingError:
        if route.verb in _VERBS:
            return await self._on_executor(
                request, lambda client, reply: self._run(route, request, client, reply)
            )
        if not route.spec.name:
            return InvalidArgument("Missing model name in request.")
        if route.verb == "metadata":
            return await self._on_executor(
                request, lambda _client, reply: self._run_metadata(route.spec, reply)
            )
        # A look at memory: it must answer even while every thread of the executor is taken.
        return attempt(lambda: status_body(self._models, route.spec))

    async def _on_executor(
        self, request: _Request, work: Callable[[Cancellation, _Reply], None]
    ) -> bytes | ServingError:
        """What ``work`` replies with, sooner or later, from whichever thread."""
        client = WaitingClient(request.receive)
        reply: Future[bytes | ServingError] = Future()
        reply.set_running_or_notify_cancel()  # a reply may come although nobody waits any more

        def begin() -> None:
            failed = attempt(lambda: work(client, reply.set_result))
            if isinstance(failed, ServingError):
                reply.set_result(failed)
            elif not reply.done():
                client.watch()

        try:
            self._executor.submit(begin)
            return await asyncio.wrap_future(reply)
        except (RuntimeError, asyncio.CancelledError):
            # No more work is taken, or the time to finish what was taken is over.
            client.cancel()
            return Unavailable("the server is shutting down")
        finally:
            client.answered()

    def _run_metadata(self, spec: ModelSpec, reply: _Reply) -> None:
        def done(metadata: ModelMetadata | ServingError) -> None:
            reply(
                metadata
                if isinstance(metadata, ServingError)
                else attempt(lambda: metadata_body(metadata))
            )

        model_metadata(self._models, spec, [SIGNATURE_DEF], self._deadline(), done)

    def _run(
        self, route: Route, request: _Request, cancellation: Cancellation, reply: _Reply
    ) -> None:
        document = attempt(lambda: read_object(request.content()))
        if isinstance(document, ServingError):
            reply(document)
            return
        priority: Priority | ServingError = Priority.NORMAL
        if self._honor_priorities:
            priority = attempt(requested_priority, request.headers.items())
        if isinstance(priority, ServingError):
            reply(priority)
            return
        options = RunOptions(self._deadline(), cancellation, priority, route.verb.capitalize())
        starter = threading.get_ident()

        def start(handle: ServableHandle) -> None:
            started = attempt(lambda: self._start(route.verb, handle, document, options, reply))
            if isinstance(started, ServingError):
                handle.release()
                reply(started)

        def leased(handle: ServableHandle | ServingError) -> None:
            if isinstance(handle, ServingError):
                reply(handle)
            else:
                self._go_on(starter, lambda: start(handle))

        self._models.lease(route.spec, options.deadline, leased)

    def _start(
        self,
        verb: str,
        handle: ServableHandle,
        document: JsonObject,
        options: RunOptions,
        reply: _Reply,
    ) -> None:
        starter = threading.get_ident()

        def finish(outcome: WriteBody | ServingError) -> None:
            written = outcome if isinstance(outcome, ServingError) else attempt(outcome)
            handle.release()
            reply(written)

        def answer(outcome: WriteBody | ServingError) -> None:
            self._go_on(starter, lambda: finish(outcome))

        check = self._check_method_name
        _VERBS[verb](handle, document, options, answer, check_method_name=check)

    def _go_on(self, starter: int, work: Callable[[], None]) -> None:
        """Do it here when this is the thread that started, else on the executor: what called back
        has other work to do.
        """
        if threading.get_ident() == starter:
            work()
            return
        try:
            self._executor.submit(work)
        except RuntimeError:  # shutting down: late, but still owed
            work()

    def _deadline(self) -> float | None:
        return self._clock.monotonic() + self._timeout_seconds if self._timeout_seconds else None


def _target(scope: Scope) -> str:
    """The request target as it was sent: path and query, percent-encoded."""
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    query: bytes = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("utf-8", "surrogateescape")


def _preflight(origin: str) -> _Answer:
    allowed = _WEB_ORIGIN.search(origin) is not None
    return _Answer(Code.OK if allowed else Code.INVALID_ARGUMENT, media_type=None)


def _error(error: ServingError) -> _Answer:
    return _Answer(error.code, json_writer.error(error.message), headers=_retry_after(error))


def _retry_after(error: ServingError) -> dict[str, str]:
    """In whole seconds, as RFC 9110 (10.2.3) has it."""
    seconds = error.retry_after_seconds
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}
