"""Turns aspired paths into aspired loaders: a target for a source, a source for a manager."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from serving.core.errors import Internal, ServingError
from serving.core.loader import Loader
from serving.core.servable_data import ServableData
from serving.core.source import AspiredVersions

log = logging.getLogger(__name__)

LoaderFactory = Callable[[str], Loader]
"""Makes the loader of the version at a path; cheap, loads nothing."""


class PlatformAdapter:
    """Adapts each version by itself: one that cannot be adapted becomes an error in its place.

    Errors that come down the stream pass through. Thread-safe.
    """

    def __init__(self, make_loader: LoaderFactory, target: AspiredVersions[Loader]) -> None:
        self._make_loader = make_loader
        self._target = target

    def aspired_versions(self, name: str, versions: Sequence[ServableData[str]]) -> None:
        """Pass on the same versions, with loaders in place of paths."""
        self._target(name, [self._adapt(data) for data in versions])

    def _adapt(self, data: ServableData[str]) -> ServableData[Loader]:
        if isinstance(data.payload, ServingError):
            return ServableData(data.id, data.payload)
        try:
            return ServableData(data.id, self._make_loader(data.payload))
        except ServingError as error:
            return ServableData(data.id, error)
        except Exception as error:
            log.exception("adapting %s failed", data.id)
            reason = Internal(f"no loader for {data.id}: {type(error).__name__}")
            return ServableData(data.id, reason)


class ErrorInjectingAdapter:
    """Replaces every version's payload by one error; the port for servables without a platform."""

    def __init__(self, error: ServingError, target: AspiredVersions[Loader]) -> None:
        self._error = error
        self._target = target

    def aspired_versions(self, name: str, versions: Sequence[ServableData[str]]) -> None:
        """Pass on the same versions, each with the error."""
        self._target(name, [ServableData(data.id, self._error) for data in versions])
