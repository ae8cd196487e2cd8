"""What an API may ask of the house: lend a model, tell its states, take a configuration."""

from __future__ import annotations

import threading
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


Leased = Callable[[ServableHandle | ServingError], None]
"""Hears of a lease, which is then its own to release, or why there is none. Never raises."""


class Models(Protocol):
    """The configured models. Thread-safe."""

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        """Lend the version that ``spec`` resolves to.

        Never raises nor blocks. ``leased`` is called exactly once: on this thread when the version
        is loaded or there is nothing to wait for, else on another when its load has ended.
        ``deadline`` is a point in monotonic seconds; None waits without end. The errors are
        InvalidArgument for an empty name or unknown label, NotFound when that version is not
        available, Unavailable when labels are not known yet, DeadlineExceeded when the load takes
        longer, and whatever the load failed with.
        """

    def names(self) -> Sequence[str]:
        """Every model that is configured now, whether or not a version of it was found."""

    def versions(self, name: str) -> Sequence[ServableState]:
        """The last state of every version of the model seen, highest version first.

        May raise NotFound, where none was, to say why.
        """

    def begin_reload(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        """Serve these models from now on; ``done`` hears when the newly named ones are available.

        Raises a ServingError that says which model is wrong; ``done`` hears which did not become
        available, on any thread.
        """


def lease_and_wait(
    models: Models, spec: ModelSpec, deadline: float | None = None
) -> ServableHandle:
    """The blocking face of :meth:`Models.lease`; raises its error."""
    ended = threading.Event()
    outcomes: list[ServableHandle | ServingError] = []

    def leased(outcome: ServableHandle | ServingError) -> None:
        outcomes.append(outcome)
        ended.set()

    models.lease(spec, deadline, leased)
    ended.wait()
    (outcome,) = outcomes
    if isinstance(outcome, ServingError):
        raise outcome
    return outcome
