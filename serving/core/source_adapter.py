"""Adapters stand between a source and a target, and turn one kind of payload into another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from serving.core.errors import Internal, ServingError
from serving.core.servable_data import ServableData
from serving.core.source import AspiredVersions

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")


class UnarySourceAdapter(Generic[S, T]):
    """Converts each payload by itself: one that cannot be converted becomes an error in its place.

    A target for the source before it and a source for the target after it; what arrives before
    :meth:`connect` waits for it. Errors that come down the stream pass through. Thread-safe.
    """

    def __init__(self, convert: Callable[[S], T]) -> None:
        """``convert`` is cheap; it may raise, a ServingError to say why in its own words."""
        self._convert = convert
        self._connected = threading.Event()
        self._target: AspiredVersions[T] | None = None

    def connect(self, target: AspiredVersions[T]) -> None:
        """Name the target; once."""
        self._target = target
        self._connected.set()

    def aspired_versions(self, name: str, versions: Sequence[ServableData[S]]) -> None:
        """Pass on the same versions, with converted payloads."""
        self._connected.wait()
        if self._target is not None:
            self._target(name, [self._adapt(data) for data in versions])

    def _adapt(self, data: ServableData[S]) -> ServableData[T]:
        if isinstance(data.payload, ServingError):
            return ServableData(data.id, data.payload, data.revision)
        try:
            payload: T | ServingError = self._convert(data.payload)
        except ServingError as error:
            payload = error
        except Exception as error:
            log.exception("adapting %s failed", data.id)
            payload = Internal(f"no loader for {data.id}: {type(error).__name__}")
        return ServableData(data.id, payload, data.revision)


def error_injecting(error: ServingError) -> UnarySourceAdapter[S, T]:
    """An adapter that puts one error in place of every payload."""

    def refuse(_payload: S) -> T:
        raise error

    return UnarySourceAdapter(refuse)


def path_prefixing(prefix: str) -> UnarySourceAdapter[str, str]:
    """An adapter that puts ``prefix`` before every path; an empty one changes nothing."""
    start = prefix.rstrip("/")
    return UnarySourceAdapter(lambda path: f"{start}/{path.lstrip('/')}" if prefix else path)
