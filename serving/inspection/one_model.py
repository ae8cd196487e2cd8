"""The APIs of a server over one loaded version, without ports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from starlette.types import Message as AsgiMessage

from serving.apis.tensorflow_serving.prediction_service import PredictionService
from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.core.call import CallContext, WithMetadata
from serving.core.errors import ServingError, Unimplemented
from serving.core.model_config import ModelConfig
from serving.core.models import Leased, ModelSpec
from serving.core.servable import Servable
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.registry import Metrics


class OneModel:
    """A version as the only one of a server; implements Models, and what two APIs answer."""

    def __init__(self, servable_id: ServableId, servable: Servable) -> None:
        self._id = servable_id
        self._servable = servable
        self._methods = PredictionService(self, Metrics()).methods()

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:  # noqa: ARG002
        """Whatever model is asked for, it is this one."""
        leased(ServableHandle(self._id, self._servable, lambda _handle: None))

    def names(self) -> Sequence[str]:
        return [self._id.name]

    def versions(self, name: str) -> Sequence[ServableState]:  # noqa: ARG002  # there is but one
        return [ServableState(self._id, ManagerState.AVAILABLE)]

    def begin_reload(
        self,
        configs: Sequence[ModelConfig],  # noqa: ARG002  # none is taken
        done: Callable[[ServingError | None], None],
    ) -> None:
        done(Unimplemented("there is one model, which stays"))

    def call(self, method: str, request: bytes) -> bytes | ServingError:
        """The answer of gRPC to a method by its full path."""
        answered = threading.Event()
        answers: list[bytes | ServingError] = []

        def reply(answer: bytes | ServingError | WithMetadata) -> None:
            answers.append(answer.answer if isinstance(answer, WithMetadata) else answer)
            answered.set()

        try:
            self._methods[method](request, CallContext(), reply)
        except ServingError as error:
            return error
        answered.wait()
        return answers[0]

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of REST's answer."""
        return asyncio.run(self._post(path, body, headers))

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        sent: list[AsgiMessage] = []
        requests: list[AsgiMessage] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> AsgiMessage:
            if requests:
                return requests.pop()
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        async def send(message: AsgiMessage) -> None:
            sent.append(message)

        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*encoded, (b"content-length", b"%d" % len(body))],
        }
        with ThreadPoolExecutor(1) as executor:
            api = RestApi(self, executor=executor, options=RestOptions(timeout_seconds=None))
            await api(scope, receive, send)
        begin, *rest = sent
        return begin["status"], b"".join(message.get("body", b"") for message in rest)
