"""Which of the names that clients ask for are label values."""

from __future__ import annotations

from collections.abc import Callable, Collection

from serving.metrics.families import OTHER

_MOST_UNKNOWN = 100


class ModelNames:
    """Those of configured models, and the first 100 of others, so that invented names leave room
    for models that come. Thread-safe.
    """

    def __init__(self, configured: Callable[[], Collection[str]]) -> None:
        self._configured = configured
        self._unknown: set[str] = set()

    def shown(self, name: str) -> str:
        """The name, or what stands for those that are not shown."""
        if not name or name in self._unknown or name in self._configured():
            return name
        if len(self._unknown) >= _MOST_UNKNOWN:
            return OTHER
        self._unknown.add(name)
        return name
