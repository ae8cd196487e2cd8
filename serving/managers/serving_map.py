"""The versions that can be looked up now, and the leases on them.

Readers take no lock: they read one immutable snapshot and add themselves to the set of a
version's leases. A writer publishes a new snapshot first and closes the version afterwards, so a
reader that raced it sees the version closed and looks again. Adding to a set and replacing an
attribute are atomic in CPython, with and without the interpreter lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from serving.core.errors import NotFound
from serving.core.servable import Servable
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest


class _Entry:
    """One version that can be looked up, with everyone who holds it."""

    __slots__ = ("_leases", "_lock", "_on_drained", "closed", "id", "servable")

    def __init__(self, servable_id: ServableId, servable: Servable) -> None:
        self.id = servable_id
        self.servable = servable
        self.closed = False
        self._leases: set[ServableHandle] = set()
        self._lock = threading.Lock()
        self._on_drained: Callable[[], None] | None = None

    @property
    def in_use(self) -> bool:
        return bool(self._leases)

    def lease(self) -> ServableHandle | None:
        """A lease, or None when the version was closed meanwhile."""
        handle = ServableHandle(self.id, self.servable, self._give_back)
        self._leases.add(handle)
        if self.closed:
            self._give_back(handle)
            return None
        return handle

    def close(self, on_drained: Callable[[], None]) -> None:
        """Lend no more; call back once, when the last lease is given back (perhaps right now)."""
        self._on_drained = on_drained
        self.closed = True
        self._finish_if_drained()

    def _give_back(self, handle: ServableHandle) -> None:
        self._leases.discard(handle)
        if self.closed:
            self._finish_if_drained()

    def _finish_if_drained(self) -> None:
        with self._lock:
            if self._leases or self._on_drained is None:
                return
            on_drained, self._on_drained = self._on_drained, None
        on_drained()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Everything a look-up needs; replaced as a whole, never changed."""

    by_name: Mapping[str, Mapping[int, _Entry]] = field(default_factory=dict)
    latest: Mapping[str, _Entry] = field(default_factory=dict)


class ServingMap:
    """Looks up available versions. Thread-safe; look-ups take no lock that a writer holds."""

    def __init__(self) -> None:
        self._snapshot = _Snapshot()
        self._writing = threading.Lock()

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on the version asked for, or on the highest one.

        Raises NotFound; existing clients look for the word "Servable" in its text to see that a
        server is up.
        """
        while True:
            entry = self._find(request)
            if entry is None:
                raise NotFound(f"Servable not found for request: {request}")
            handle = entry.lease()
            if handle is not None:
                return handle

    def available(self, name: str | None = None) -> Sequence[ServableId]:
        """Every version that can be looked up, or every one of this name, in order."""
        by_name = self._snapshot.by_name
        versions = by_name.values() if name is None else [by_name.get(name, {})]
        return sorted(entry.id for entries in versions for entry in entries.values())

    def in_use(self, servable_id: ServableId) -> bool:
        """Whether anybody holds a lease on this version now."""
        entry = self._find(ServableRequest(*servable_id))
        return entry is not None and entry.in_use

    def insert(self, servable_id: ServableId, servable: Servable) -> None:
        """Make a version available; look-ups that begin from now on find it."""
        with self._writing:
            entries = dict(self._snapshot.by_name.get(servable_id.name, {}))
            entries[servable_id.version] = _Entry(servable_id, servable)
            self._publish(servable_id.name, entries)

    def remove(self, servable_id: ServableId, on_drained: Callable[[], None]) -> None:
        """Make a version unavailable; ``on_drained`` is called when nobody holds it any more.

        The call comes on the thread that gives back the last lease, or on this one. Only this
        version's own leases are waited for.
        """
        with self._writing:
            entries = dict(self._snapshot.by_name[servable_id.name])
            entry = entries.pop(servable_id.version)
            self._publish(servable_id.name, entries)
        entry.close(on_drained)

    def _find(self, request: ServableRequest) -> _Entry | None:
        snapshot = self._snapshot
        if request.version is None:
            return snapshot.latest.get(request.name)
        return snapshot.by_name.get(request.name, {}).get(request.version)

    def _publish(self, name: str, entries: Mapping[int, _Entry]) -> None:
        by_name, latest = dict(self._snapshot.by_name), dict(self._snapshot.latest)
        if entries:
            by_name[name], latest[name] = entries, entries[max(entries)]
        else:
            by_name.pop(name, None)
            latest.pop(name, None)
        self._snapshot = _Snapshot(by_name, latest)
