"""The five states that the world sees of a version, announced over the event bus."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from serving.core.errors import ServingError
from serving.core.servable_id import ServableId


class ManagerState(enum.IntEnum):
    """Where a version stands; the numbers are those of ModelVersionStatus.State on the wire.

    A version only ever moves forward: START, LOADING, AVAILABLE, UNLOADING, END.
    """

    START = 10
    """The manager knows of the version; nothing is loaded."""
    LOADING = 20
    """Resources are reserved; the load is about to begin."""
    AVAILABLE = 30
    """It can be looked up."""
    UNLOADING = 40
    """It is about to stop being looked up."""
    END = 50
    """It is gone, or it failed; then ``error`` says why."""


@dataclass(frozen=True, slots=True)
class ServableState:
    """One announcement: this version is now in this state, with this error if it failed."""

    id: ServableId
    state: ManagerState
    error: ServingError | None = None

    def __str__(self) -> str:
        reason = f" due to error: {self.error}" if self.error else ""
        return f"{self.id} {self.state.name}{reason}"
