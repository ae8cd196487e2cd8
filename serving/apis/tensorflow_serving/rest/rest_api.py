"""The REST gateway of TensorFlow Serving's API, version 1, as an ASGI application."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from serving.apis.tensorflow_serving.rest import content_coding, docs_page, json_writer, openapi
from serving.apis.tensorflow_serving.rest.body import BodyRoom, HeldBody, receive_body
from serving.apis.tensorflow_serving.rest.metadata import metadata_body
from serving.apis.tensorflow_serving.rest.model_calls import ModelCalls, Outcome
from serving.apis.tensorflow_serving.rest.read_call import VERBS, read_call
from serving.apis.tensorflow_serving.rest.routes import Route, find_route, is_api
from serving.apis.tensorflow_serving.rest.status import list_body, status_body
from serving.apis.tensorflow_serving.rest.tensors import NPZ, media_type_of
from serving.apis.tensorflow_serving.rest.verb import Call, Content, Headers
from serving.apis.tensorflow_serving.rest.waiting_client import WaitingClient
from serving.core.clock import Clock, SystemClock
from serving.core.errors import Code, InvalidArgument, ServingError, Unimplemented
from serving.core.models import Models, ModelSpec
from serving.core.observed_call import CURRENT_CALL
from serving.core.priority import REQUEST_PRIORITY, Priority, requested_priority
from serving.core.request_log import CallLoggers
from serving.inference.attempt import attempt
from serving.inference.model_metadata import SIGNATURE_DEF, ModelMetadata, model_metadata
from serving.metrics.model_names import ModelNames
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import RequestMetrics

_WEB_ORIGIN = re.compile("https?://")
_CORS_HEADERS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)
_HTML = b"text/html; charset=utf-8"
_NOT_FOUND_PAGE = (
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
    b"</BODY></HTML>\n"
)


PAGES: Mapping[str, Callable[[Models, Clock], Content]] = {
    "/openapi.json": lambda models, clock: Content(openapi.document(models, clock)),
    "/docs": lambda _models, _clock: Content(docs_page.PAGE, _HTML),
}
"""What describes the API, by path."""


class RestOptions(NamedTuple):
    """How the gateway answers.

    ``timeout_seconds`` bounds the wait for a load and the run (None or 0: no bound). With
    ``cors``, pages of any origin may read the responses. ``check_method_name`` refuses signatures
    whose method_name does not fit the call. ``honor_priorities`` runs requests with the priority
    that their header asks for; without it that header is not read. Bodies of more than
    ``max_body_bytes``, as sent or as decompressed, are refused, and so is what would make more than
    ``max_total_body_bytes`` of all bodies, as sent, whose requests are not answered yet.
    """

    timeout_seconds: float | None = 30
    cors: bool = False
    check_method_name: bool = False
    honor_priorities: bool = False
    max_body_bytes: int = 256 * 2**20
    max_total_body_bytes: int = 2**30


class _Request(NamedTuple):
    """Once ``receive`` has given the body, if there is one, it only tells of a disconnection."""

    method: str
    target: str
    headers: Headers
    receive: Receive

    def encoded(self, content: Content) -> Content:
        """As the client wants it compressed, or not."""
        return content_coding.encode(content, self.headers)


class _Answer(NamedTuple):
    code: Code
    status: int
    content: Content
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RestApi:
    """``/v1/models/…`` over the models of a server, and pages that describe them.

    The event loop does what is small itself, see :class:`ModelCalls`; what is large, and all that
    describes models, is worked on by ``executor``.
    """

    def __init__(
        self,
        models: Models,
        *,
        executor: Executor,
        options: RestOptions | None = None,
        metrics: Metrics | None = None,
        loggers: CallLoggers | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._models = models
        self._options = options or RestOptions()
        clock = clock or SystemClock()
        timeout_seconds = self._options.timeout_seconds
        loggers = loggers or CallLoggers()
        self._calls = ModelCalls(models, executor, timeout_seconds, clock, loggers)
        self._clock = clock
        self._body_room = BodyRoom(self._options.max_total_body_bytes)
        self._cors = _CORS_HEADERS if self._options.cors else ()
        metrics = metrics or Metrics()
        shown = ModelNames(models.names).shown
        self._request_metrics = RequestMetrics(metrics, "", "REST", shown)
        self._verb_metrics = {verb: RequestMetrics(metrics, verb, "REST", shown) for verb in VERBS}

    def honor_priorities(self, honors: bool) -> None:
        """Change that option, for the requests to come."""
        self._options = self._options._replace(honor_priorities=honors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise Unimplemented(f"the REST API does not speak {scope['type']}")
        target = _target(scope)
        request = _Request(scope["method"], target, dict(scope["headers"]), receive)
        found = attempt(find_route, request.method, target)
        if isinstance(found, Route) and found.verb in VERBS:  # what else has a body keeps it
            with HeldBody(self._body_room) as held:
                await self._run(found, request, held, send)
        elif is_api(target):
            began = self._request_metrics.begun()
            answer = await self._answer(found, request)
            self._count(found, answer.code, began)
            await _send(answer, self._cors, send)
        else:
            await _send(await self._page(request), (), send)

    async def _run(self, route: Route, request: _Request, held: HeldBody, send: Send) -> None:
        """Answer a call that runs a model.

        Most requests of a busy server come this way, so that it has few steps.
        """
        headers, max_bytes = request.headers, self._options.max_body_bytes
        _tell_route(route)
        try:
            body = await receive_body(request.receive, headers, max_bytes, held)
        except ServingError as error:
            began, answer = self._request_metrics.begun(), _error(error)
        else:
            if body is None:
                return
            began = self._request_metrics.begun()
            outcome = await self._calls.run(
                route,
                partial(self._read, route.verb, body, headers),
                math.inf if _is_packed(headers) else len(body),
                request.encoded,
                WaitingClient(request.receive),
            )
            answer = _answer_of(outcome)
        self._count(route, answer.code, began)
        await _send(answer, self._cors, send)

    def _count(self, found: Route | ServingError | None, code: Code, began: float) -> None:
        name, verb = (found.spec.name, found.verb) if isinstance(found, Route) else ("", "")
        counting = self._verb_metrics.get(verb, self._request_metrics)
        counting.answered(name, code.name, began)

    async def _answer(self, found: Route | ServingError | None, request: _Request) -> _Answer:
        """``found``: the call that the target names, if any, or why it can name none."""
        if request.method == "OPTIONS":
            return _preflight(request.headers.get(b"origin", b"").decode("latin-1"))
        if isinstance(found, ServingError):
            # As clients know it: a refusal without a text.
            return _Answer(found.code, found.http_status, Content(b""))
        if found is None:
            malformed = f"Malformed request: {request.method} {request.target}"
            return _error(InvalidArgument(malformed))
        _tell_route(found)
        return _answer_of(await self._description(found, request))

    async def _page(self, request: _Request) -> _Answer:
        page = PAGES.get(request.target.partition("?")[0])
        if page is None or request.method not in ("GET", "HEAD"):
            return _Answer(Code.NOT_FOUND, 404, Content(_NOT_FOUND_PAGE, _HTML))
        made = await self._calls.off_loop(
            lambda reply: reply(request.encoded(page(self._models, self._clock))),
            WaitingClient(request.receive),
        )
        return _answer_of(made)

    async def _description(self, route: Route, request: _Request) -> Outcome:
        # Looks at memory: they must answer even while every thread of the executor is taken.
        if route.verb == "list":
            return attempt(lambda: request.encoded(Content(list_body(self._models))))
        if not route.spec.name:
            return InvalidArgument("Missing model name in request.")
        if route.verb == "status":
            return attempt(lambda: request.encoded(Content(status_body(self._models, route.spec))))
        return await self._calls.off_loop(
            lambda reply: self._reply_with_metadata(route.spec, request, reply),
            WaitingClient(request.receive),
        )

    def _read(self, verb: str, body: bytes, headers: Headers) -> tuple[Call, Priority]:
        options = self._options
        call = read_call(
            verb,
            content_coding.decode(body, headers, options.max_body_bytes),
            headers,
            max_bytes=options.max_body_bytes,
            check_method_name=options.check_method_name,
        )
        return call, _priority(headers) if options.honor_priorities else Priority.NORMAL

    def _reply_with_metadata(
        self, spec: ModelSpec, request: _Request, reply: Callable[[Outcome], None]
    ) -> None:
        def done(metadata: ModelMetadata | ServingError) -> None:
            if isinstance(metadata, ServingError):
                reply(metadata)
            else:
                reply(attempt(lambda: request.encoded(Content(metadata_body(metadata)))))

        model_metadata(self._models, spec, [SIGNATURE_DEF], self._calls.deadline(), done)


async def _send(answer: _Answer, more: Iterable[tuple[bytes, bytes]], send: Send) -> None:
    body, media_type, coding, varies = answer.content
    headers = [(b"content-length", b"%d" % len(body)), *answer.headers, *more]
    if media_type:
        headers.append((b"content-type", media_type))
    if varies:
        headers.append((b"vary", b"Accept-Encoding"))
    if coding:
        headers.append((b"content-encoding", coding))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _target(scope: Scope) -> str:
    """The request target as it was sent: path and query, percent-encoded."""
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
    query: bytes = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("utf-8", "surrogateescape")


def _tell_route(route: Route) -> None:
    """Have the call that is observed, if it is, known by what it asks for."""
    call = CURRENT_CALL.get()
    if call is not None:
        call.route = route.template


def _is_packed(headers: Headers) -> bool:
    """Whether any amount may come out of the body, however short it is."""
    return b"content-encoding" in headers or media_type_of(headers) == NPZ


def _priority(headers: Headers) -> Priority:
    value = headers.get(REQUEST_PRIORITY.encode())
    return requested_priority([(REQUEST_PRIORITY, value.decode("latin-1"))] if value else ())


def _preflight(origin: str) -> _Answer:
    code = Code.OK if _WEB_ORIGIN.search(origin) else Code.INVALID_ARGUMENT
    return _Answer(code, code.http_status, Content(b"", b""))


def _answer_of(outcome: Outcome) -> _Answer:
    if isinstance(outcome, ServingError):
        return _error(outcome)
    return _Answer(Code.OK, 200, outcome)


def _error(error: ServingError) -> _Answer:
    content = Content(json_writer.error(error.message))
    return _Answer(error.code, error.http_status, content, _retry_after(error))


def _retry_after(error: ServingError) -> tuple[tuple[bytes, bytes], ...]:
    """In whole seconds, as RFC 9110 (10.2.3) has it."""
    seconds = error.retry_after_seconds
    return () if seconds is None else ((b"retry-after", b"%d" % max(1, math.ceil(seconds))),)
