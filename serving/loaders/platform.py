"""What a framework has to be able to do."""

from __future__ import annotations

from typing import Protocol

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.device import Device


class Platform(Protocol):
    """A framework that can load versions. Thread-safe; constructed with its options, if it has any.

    Both methods raise a ServingError that says what is wrong with the files.
    """

    def estimate(self, path: str) -> ResourceAllocation:
        """An upper bound of what the version at ``path`` will hold, without loading it."""

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """Load the version at ``path``; blocks for as long as that takes.

        ``device`` None leaves the choice to the platform. Raises FailedPrecondition for one that
        the platform does not have.
        """
