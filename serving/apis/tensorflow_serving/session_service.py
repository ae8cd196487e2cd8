"""tensorflow.serving.SessionService: runs of any nodes of a model's graph."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

import numpy as np
from tensorflow_serving.apis import session_service_pb2

from serving.apis.tensorflow_serving.messages import parse
from serving.apis.tensorflow_serving.model_spec import encode_model_spec, requested_model
from serving.apis.tensorflow_serving.tensor_codec import decode_tensor, encode_tensor
from serving.core.call import CallContext, Reply, UnaryHandler
from serving.core.clock import Clock
from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ServingError,
    Unavailable,
)
from serving.core.graph_session import NodesRun, graph_session_of
from serving.core.models import Models
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.inference.attempt import attempt

# Asked of the descriptor so that it is loaded: reflection describes to clients what is.
_SERVICE: str = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name

SESSION_RUN = f"/{_SERVICE}/SessionRun"

_OPTIONS = frozenset(
    {
        "trace_level",
        "timeout_in_ms",
        "output_partition_graphs",
        "report_tensor_allocations_upon_oom",
    }
)
"""Of RunOptions, those that a client may set: the others choose threads, or write files."""

_LONGEST_TIMEOUT_MS = 2**31 - 1


class SessionService:
    """Answers SessionRun. Thread-safe.

    Runs are never batched: each waits for its session on a thread of ``executor``.
    """

    def __init__(self, models: Models, executor: Executor, clock: Clock) -> None:
        self._models = models
        self._executor = executor
        self._clock = clock

    def methods(self) -> Mapping[str, UnaryHandler]:
        """The handler of each method, by its full path."""
        return {SESSION_RUN: self._session_run}

    def _session_run(self, data: bytes, context: CallContext, reply: Reply) -> None:
        request = parse(session_service_pb2.SessionRunRequest, data)
        _check_options(request.options)

        def leased(handle: ServableHandle | ServingError) -> None:
            if isinstance(handle, ServingError):
                reply(handle)
                return

            def run() -> None:
                answer = attempt(self._run, handle, request, context.deadline)
                handle.release()
                reply(answer)

            try:
                self._executor.submit(run)
            except RuntimeError:  # it takes no more work
                handle.release()
                reply(Unavailable("the server is shutting down"))

        self._models.lease(requested_model(request), context.deadline, leased)

    def _run(
        self,
        handle: ServableHandle,
        request: session_service_pb2.SessionRunRequest,
        deadline: float | None,
    ) -> bytes:
        session = graph_session_of(handle.servable)
        if session is None:
            raise InvalidArgument("Servable type doesn't match the asked for type.")
        fed, fetched = _names(handle, request)
        feeds = {name: _array(feed) for name, feed in zip(fed, request.feed, strict=True)}
        options = self._options_within(request, deadline)
        result = session.run_nodes(feeds, fetched, list(request.target), options)
        return _encoded(handle, request, result)

    def _options_within(
        self, request: session_service_pb2.SessionRunRequest, deadline: float | None
    ) -> bytes:
        """The request's RunOptions, with no more time than its call has."""
        options = request.options
        if deadline is not None:
            left_ms = math.ceil((deadline - self._clock.monotonic()) * 1000)
            if left_ms <= 0:
                raise DeadlineExceeded("Timed out waiting for notification")
            asked_ms = options.timeout_in_ms if options.timeout_in_ms > 0 else left_ms
            options.timeout_in_ms = min(left_ms, asked_ms, _LONGEST_TIMEOUT_MS)
        encoded: bytes = options.SerializeToString()
        return encoded


def _check_options(options: session_service_pb2.RunOptions) -> None:
    for field, _ in options.ListFields():
        if field.name not in _OPTIONS:
            raise InvalidArgument(f"SessionRun does not support options.{field.name}")


def _names(
    handle: ServableHandle, request: session_service_pb2.SessionRunRequest
) -> tuple[Sequence[str], Sequence[str]]:
    """The tensors to feed and to fetch; raises for names that are not there, or fed twice."""
    fed: Sequence[str] = [feed.name for feed in request.feed]
    fetched: Sequence[str] = list(request.fetch)
    if request.tensor_name_is_alias:
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = handle.servable.signatures.get(name)
        if signature is None:
            raise FailedPrecondition(f'Serving signature key "{name}" not found.')
        fed = _behind_aliases("input", fed, signature.inputs)
        fetched = _behind_aliases("output", fetched, signature.outputs)
    tensors = Counter(name if ":" in name else f"{name}:0" for name in fed)
    if twice := [name for name, count in tensors.items() if count > 1]:
        raise InvalidArgument(f"SessionRun feeds {', '.join(sorted(twice))} more than once")
    return fed, fetched


def _behind_aliases(
    what: str, aliases: Sequence[str], tensors: Mapping[str, TensorInfo]
) -> Sequence[str]:
    if unknown := sorted({alias for alias in aliases if alias not in tensors}):
        raise InvalidArgument(
            f"{what} tensor alias not found in signature: {', '.join(unknown)} "
            f"{what.capitalize()}s expected to be in the set {{{','.join(sorted(tensors))}}}."
        )
    return [tensors[alias].name for alias in aliases]


def _array(feed: session_service_pb2.NamedTensorProto) -> np.ndarray:
    try:
        return decode_tensor(feed.tensor)
    except InvalidArgument as error:
        raise InvalidArgument(f"tensor parsing error: {feed.name}: {error.message}") from None


def _encoded(
    handle: ServableHandle, request: session_service_pb2.SessionRunRequest, result: NodesRun
) -> bytes:
    response = session_service_pb2.SessionRunResponse()
    encode_model_spec(handle.id, response.model_spec)
    for name, output in zip(request.fetch, result.outputs, strict=True):
        encode_tensor(output, response.tensor.add(name=name).tensor)
    response.metadata.ParseFromString(result.metadata)
    encoded: bytes = response.SerializeToString()
    return encoded
