"""What an API may ask of the house: lend a model, tell its states, take a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.core.errors import ServingError
from serving.core.model_config import ModelConfig
from serving.core.servable_handle import ServableHandle
from serving.core.servable_state import ServableState


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model a request wants: by version, by label, or (both None) the highest available."""

    name: str
    version: int | None = None
    version_label: str | None = None


class Models(Protocol):
    """The configured models. Thread-safe."""

    def lease(self, spec: ModelSpec) -> ServableHandle:
        """A lease on the version that ``spec`` resolves to.

        Raises InvalidArgument for an empty name or unknown label, NotFound when that version is
        not available, Unavailable when labels are not known yet.
        """

    def versions(self, name: str) -> Sequence[ServableState]:
        """The last state of every version of the model seen, highest version first."""

    def begin_reload(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        """Serve these models from now on; ``done`` hears when the newly named ones are available.

        Raises a ServingError that says which model is wrong; ``done`` hears which did not become
        available, on any thread.
        """
