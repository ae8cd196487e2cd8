"""Sends each servable's stream of aspired versions to the target that its route names."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from serving.core.servable_data import ServableData
from serving.core.source import AspiredVersions

T = TypeVar("T")


class StaticSourceRouter(Generic[T]):
    """Routes by what a servable's name contains; the first route that matches wins. Thread-safe.

    A servable that matches none goes to ``default``.
    """

    def __init__(
        self,
        routes: Sequence[tuple[str, AspiredVersions[T]]],
        default: AspiredVersions[T],
    ) -> None:
        """``routes``: substrings of names, each with its target."""
        self._routes = tuple(routes)
        self._default = default

    def aspired_versions(self, name: str, versions: Sequence[ServableData[T]]) -> None:
        """Pass the list on; this is the target that a source connects to."""
        matching = (target for substring, target in self._routes if substring in name)
        next(matching, self._default)(name, versions)


class DynamicSourceRouter(Generic[T]):
    """Routes by exact servable name; the routes can be replaced while it runs. Thread-safe.

    ``ports`` are the named targets; a servable without a route goes to ``default``.
    """

    def __init__(
        self, ports: Mapping[str, AspiredVersions[T]], default: AspiredVersions[T]
    ) -> None:
        self._ports = dict(ports)
        self._default = default
        self._routes: Mapping[str, str] = {}
        self._lock = threading.Lock()

    def update_routes(self, routes: Mapping[str, str]) -> None:
        """Replace the table of servable name → port; raises ValueError for an unknown port."""
        unknown = set(routes.values()) - self._ports.keys()
        if unknown:
            raise ValueError(f"no port is called {', '.join(sorted(unknown))}")
        with self._lock:
            self._routes = dict(routes)

    def aspired_versions(self, name: str, versions: Sequence[ServableData[T]]) -> None:
        """Pass the list on; this is the target that a source connects to."""
        with self._lock:
            port = self._routes.get(name)
        target = self._default if port is None else self._ports[port]
        target(name, versions)
