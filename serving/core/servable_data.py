"""What travels down a source's stream: an id with its payload, or with the reason there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from serving.core.errors import ServingError
from serving.core.servable_id import ServableId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServableData(Generic[T]):
    """One aspired version: its payload (a path, later a loader), or the error that took its place.

    An error travels on to the manager and ends as the version's state, so that nothing that was
    aspired vanishes without a word. A higher ``revision`` says that there is reason to try again a
    version whose load failed.
    """

    id: ServableId
    payload: T | ServingError
    revision: int = 0

    @property
    def error(self) -> ServingError | None:
        """The error this version arrived with, if any."""
        return self.payload if isinstance(self.payload, ServingError) else None
