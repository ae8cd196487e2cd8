"""A model house for the tests of APIs: what it lends is counted, what it is told is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serving.core.call import CallContext
from serving.core.errors import InvalidArgument, NotFound, ServingError
from serving.core.model_config import ModelConfig
from serving.core.models import Leased, ModelSpec
from serving.core.servable import Servable
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ServableState


class FakeModels:
    """Lends one servable as every version of ``m`` up to 3.

    While ``loading`` is a list, what would lend is put there instead, as if the model had to load.
    """

    def __init__(self, servable: Servable) -> None:
        self.servable = servable
        self.leases = 0
        self.releases = 0
        self.leased: list[ModelSpec] = []
        self.deadlines: list[float | None] = []
        self.loading: list[Callable[[], None]] | None = None
        self.states: dict[str, list[ServableState]] = {}
        self.reloads: list[list[ModelConfig]] = []
        self.refusal: Exception | None = None
        self.reload_error: ServingError | None = None

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        self.leased.append(spec)
        self.deadlines.append(deadline)
        if self.loading is None:
            self._lend(spec, leased)
        else:
            self.loading.append(lambda: self._lend(spec, leased))

    def _lend(self, spec: ModelSpec, leased: Leased) -> None:
        version = 3 if spec.version is None else spec.version
        if not spec.name:
            leased(InvalidArgument("ModelSpec has no name specified."))
        elif spec.name != "m" or version > 3:
            request = ServableRequest(spec.name, spec.version)
            leased(NotFound(f"Servable not found for request: {request}"))
        else:
            self.leases += 1
            leased(ServableHandle(ServableId("m", version), self.servable, self._release))

    def _release(self, handle: ServableHandle) -> None:
        self.releases += 1

    def names(self) -> Sequence[str]:
        return ["m"]

    def versions(self, name: str) -> Sequence[ServableState]:
        return self.states.get(name, [])

    def begin_reload(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        self.reloads.append(list(configs))
        if self.refusal:
            raise self.refusal
        done(self.reload_error)


_NO_CONTEXT = CallContext()


def call(service, method: str, request, context=_NO_CONTEXT) -> bytes | ServingError:
    """The one answer to a call; errors that the handler raises count as answers."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    answers: list[bytes | ServingError] = []
    handler = service.methods()[method]
    try:
        handler(data, context, answers.append)
    except ServingError as error:
        assert not answers, "raised after having replied"
        answers.append(error)
    (answer,) = answers
    return answer
