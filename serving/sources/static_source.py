"""A source that aspires to one version, once and for all."""

from __future__ import annotations

from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.core.source import AspiredVersions


class StaticStoragePathSource:
    """Emits one path, as soon as it is connected and never again."""

    def __init__(self, servable_id: ServableId, path: str) -> None:
        self._id = servable_id
        self._path = path

    def connect(self, target: AspiredVersions[str]) -> None:
        """Aspire to the version; on the caller's thread, before this returns."""
        target(self._id.name, [ServableData(self._id, self._path)])
