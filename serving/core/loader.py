"""The interface between a manager and whatever knows how to bring a version into memory."""

from __future__ import annotations

from typing import Protocol

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId


class Loader(Protocol):
    """Brings one version into memory and out again. The manager serialises the calls.

    Making a loader is cheap: nothing is read before :meth:`load`. A version that was unloaded may
    be loaded again.
    """

    def estimate_resources(self) -> ResourceAllocation:
        """An upper bound of what the loaded version holds; may shrink later, never grow."""

    def load(self, servable_id: ServableId) -> None:
        """Bring the version into memory; raises when it cannot, and may then be called again."""

    def cancel_load(self) -> None:
        """Nobody wants the load any more: end it early, where it can be, by raising Cancelled.

        May be called at any time and from any thread, and does not block.
        """

    def unload(self) -> None:
        """Free what :meth:`load` took. No run is in flight when this is called."""

    @property
    def servable(self) -> Servable | None:
        """The loaded version; None before a load has succeeded and after the unload."""
