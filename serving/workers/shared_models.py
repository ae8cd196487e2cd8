"""A worker's models as clients see them: those of all workers together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from serving.core.errors import NotFound, ServingError
from serving.core.model_config import ModelConfig
from serving.core.models import Leased, Models, ModelSpec
from serving.core.servable_handle import ServableHandle
from serving.core.servable_state import ServableState


class SharedModels:
    """The models of this process, and where they stand in all workers: a Models. Thread-safe.

    A request that names no version gets the highest that is available in every worker, so that it
    does not depend on the worker while some have a new version and others do not.
    """

    def __init__(
        self,
        own: Models,
        latest: Mapping[str, int],
        versions: Mapping[str, Sequence[ServableState]],
        reload_all: Callable[[Sequence[ModelConfig], Callable[[ServingError | None], None]], None],
    ) -> None:
        """``latest`` and ``versions``, by model, change as the workers do."""
        self._own = own
        self._latest = latest
        self._versions = versions
        self._reload_all = reload_all

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        latest = self._latest.get(spec.name)
        if latest is None or spec.version is not None or spec.version_label is not None:
            self._own.lease(spec, deadline, leased)
            return

        def or_any(outcome: ServableHandle | ServingError) -> None:
            """What was the latest when this began may be on its way out now."""
            if isinstance(outcome, NotFound):
                self._own.lease(spec, deadline, leased)
            else:
                leased(outcome)

        self._own.lease(ModelSpec(spec.name, latest), deadline, or_any)

    def names(self) -> Sequence[str]:
        return self._own.names()

    def versions(self, name: str) -> Sequence[ServableState]:
        return self._versions.get(name, ())

    def begin_reload(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        self._reload_all(configs, done)
