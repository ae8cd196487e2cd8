"""Sources say which versions should be served; targets are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from serving.core.servable_data import ServableData

T = TypeVar("T")

AspiredVersions = Callable[[str, Sequence[ServableData[T]]], None]
"""Called with a servable's name and the complete list of versions that should be served.

A version left out is no longer wanted; an empty list wants none. Calls repeat themselves (every
poll emits everything), so a target must be idempotent. Any thread may call; returns quickly.
"""


class Source(Protocol[T]):
    """Something that emits aspired versions to the one target it is connected to."""

    def connect(self, target: AspiredVersions[T]) -> None:
        """Name the target; before the first emission, once."""
