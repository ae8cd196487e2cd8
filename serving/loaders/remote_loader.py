"""Loads a version that lies elsewhere: fetches a copy of it, then loads that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from serving.core.errors import Gone, NotFound, Unavailable
from serving.core.loader import Loader
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId

_RAM_PER_STORED_BYTE = 1.2


class LocalCopy(Protocol):
    """A copy of a version on this machine, there until it is released."""

    @property
    def path(self) -> str: ...

    def release(self) -> None: ...


class Copies(Protocol):
    """Fetches versions. Thread-safe; methods block, and raise a ServingError."""

    def size_bytes(self, uri: str) -> int:
        """How large the version at a URI is."""

    def lease(self, uri: str) -> LocalCopy:
        """A copy of the version at a URI, fetched unless there is one."""


class RemoteLoader:
    """A loader around the one that loads the copy. The manager serialises the calls.

    Fetching is the first step of the load, so it happens on a load thread, shows as LOADING, is
    tried again like any failed load, and fails as one. The copy is held until the unload, because
    platforms map files into memory and open some of them late.
    """

    def __init__(
        self,
        uri: str,
        copies: Copies,
        make_loader: Callable[[str], Loader],
        num_instances: int = 1,
    ) -> None:
        """``make_loader`` makes the loader of a local path, which loads it ``num_instances`` times
        unless the files say otherwise.
        """
        self._uri = uri
        self._copies = copies
        self._make_loader = make_loader
        self._num_instances = num_instances
        self._copy: LocalCopy | None = None
        self._loader: Loader | None = None
        self._loading: Loader | None = None
        self._estimate: ResourceAllocation | None = None

    def estimate_resources(self) -> ResourceAllocation:
        """Before the load, 1.2 times the files in their store for each instance, as platforms
        estimate from disk; afterwards the platform's own word.

        The store is asked once, and anew after a load that failed. One that cannot be reached now
        counts as nothing: the load that follows meets the same outage, and has retries.
        """
        if self._loader is not None:
            return self._loader.estimate_resources()
        if self._estimate is None:
            try:
                with _noticing_absence():
                    size_bytes = self._copies.size_bytes(self._uri)
            except Unavailable:
                return ResourceAllocation()
            one = int(_RAM_PER_STORED_BYTE * size_bytes)
            self._estimate = ResourceAllocation.ram(one * self._num_instances)
        return self._estimate

    def load(self, servable_id: ServableId) -> None:
        """Fetch and load; when either fails, the copy may be evicted.

        Raises Gone when the store does not have the version any more.
        """
        self._estimate = None
        with _noticing_absence():
            copy = self._copies.lease(self._uri)
        try:
            loader = self._loading = self._make_loader(copy.path)
            loader.load(servable_id)
        except BaseException:
            copy.release()
            raise
        finally:
            self._loading = None
        self._copy, self._loader = copy, loader

    def cancel_load(self) -> None:
        """Ends the load of the copy early; fetching it is finished."""
        if loading := self._loading:
            loading.cancel_load()

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


@contextmanager
def _noticing_absence() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise Gone(error.message) from error
