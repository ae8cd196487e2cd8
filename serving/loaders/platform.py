"""What a framework has to be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device


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


@runtime_checkable
class PlatformWithDevices(Platform, Protocol):
    """A platform that may run models on other devices than the processor."""

    @property
    def devices(self) -> Sequence[Device]:
        """Those that this machine has for it."""


def devices_of(platform: Platform) -> Sequence[Device]:
    """What a platform can load models onto here."""
    return platform.devices if isinstance(platform, PlatformWithDevices) else (CPU,)
