"""A fixed set of servables, loaded once: for programs that never change what they serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.core.errors import InvalidArgument
from serving.core.servable import Servable
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.managers.serving_map import ServingMap


class StaticManager:
    """Lends out the servables it was made with. Thread-safe; look-ups take no lock.

    They stay available until :meth:`close`, which waits for nobody: each is closed when its last
    lease comes back.
    """

    def __init__(self, servables: Mapping[ServableId, Servable]) -> None:
        """Raises InvalidArgument for a servable without a name."""
        self._servables = dict(servables)
        self._map = ServingMap()
        for servable_id, servable in self._servables.items():
            if not servable_id.name:
                raise InvalidArgument(f"a servable needs a name; version {servable_id.version}")
            self._map.insert(servable_id, servable)

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on the version asked for, or on the highest; raises NotFound."""
        return self._map.servable(request)

    def available(self) -> Sequence[ServableId]:
        """Every version there is."""
        return self._map.available()

    def close(self) -> None:
        """Lend no more."""
        for servable_id, servable in self._servables.items():
            self._map.remove(servable_id, servable.close)
        self._servables.clear()
