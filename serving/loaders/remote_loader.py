"""Loads a version that lies elsewhere: fetches a copy of it, then loads that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from serving.core.loader import Loader
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId


class LocalCopy(Protocol):
    """A copy of a version on this machine, there until it is released."""

    @property
    def path(self) -> str: ...

    def release(self) -> None: ...


Localise = Callable[[str], LocalCopy]
"""Fetches the version at a URI, unless a copy is there; blocks, and raises a ServingError."""


class RemoteLoader:
    """A loader around the one that loads the copy. The manager serialises the calls.

    Fetching is the first step of the load, so it happens on a load thread, shows as LOADING, is
    tried again like any failed load, and fails as one. The copy is held until the unload, because
    platforms map files into memory and open some of them late.
    """

    def __init__(self, uri: str, localise: Localise, make_loader: Callable[[str], Loader]) -> None:
        """``make_loader`` makes the loader of a local path."""
        self._uri = uri
        self._localise = localise
        self._make_loader = make_loader
        self._copy: LocalCopy | None = None
        self._loader: Loader | None = None

    def estimate_resources(self) -> ResourceAllocation:
        """The platform's estimate once the copy is loaded; none before.

        Only the files tell what they need, and a load whose files cannot be fetched now must get
        to its retries instead of failing at its estimate.
        """
        return self._loader.estimate_resources() if self._loader else ResourceAllocation()

    def load(self, servable_id: ServableId) -> None:
        """Fetch and load; when either fails, the copy may be evicted."""
        copy = self._localise(self._uri)
        try:
            loader = self._make_loader(copy.path)
            loader.load(servable_id)
        except BaseException:
            copy.release()
            raise
        self._copy, self._loader = copy, loader

    def unload(self) -> None:
        """Unload, then let go of the copy."""
        loader, self._loader = self._loader, None
        copy, self._copy = self._copy, None
        try:
            if loader is not None:
                loader.unload()
        finally:
            if copy is not None:
                copy.release()

    @property
    def servable(self) -> Servable | None:
        return self._loader.servable if self._loader else None
