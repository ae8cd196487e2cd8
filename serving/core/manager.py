"""What the layers above may ask of whoever keeps the loaded versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest


class Manager(Protocol):
    """Lends out loaded versions. Thread-safe; look-ups take no lock that a load or unload holds."""

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on the version asked for; raises NotFound when it is not available."""

    def available(self) -> Sequence[ServableId]:
        """Every version that can be looked up now."""
