"""Aspired-version policies: what to do next for one servable, decided from a snapshot.

A policy is a pure function. It sees every version of one servable that the manager knows and
names at most one action; doing it is somebody else's work. The manager asks again afterwards.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from serving.core.servable_id import ServableId
from serving.managers.loader_harness import HarnessState

_GONE = (HarnessState.DISABLED, HarnessState.ERROR)


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """One version as a policy sees it.

    One that is ``returning`` is wanted again, but not this life of it: that has yet to end.
    """

    id: ServableId
    state: HarnessState
    is_aspired: bool
    is_returning: bool = False


class Verb(enum.Enum):
    """What can be done to a version. Unloads come first where both are due."""

    UNLOAD = 0
    LOAD = 1


@dataclass(frozen=True, slots=True)
class Action:
    """Load or unload this version."""

    verb: Verb
    id: ServableId


AspiredVersionPolicy = Callable[[Sequence[VersionSnapshot]], Action | None]


def availability_preserving(versions: Sequence[VersionSnapshot]) -> Action | None:
    """Never leave a servable without a version that serves, at the price of two in memory.

    An old version is unloaded only when a new one is ready to take over, when nothing is wanted
    any more, or when more than one old version is ready. One that is returning is wanted.
    """
    aspired = [version for version in versions if version.is_aspired]
    leaving = [
        version
        for version in versions
        if not version.is_aspired and version.state is HarnessState.READY
    ]
    replaced = any(version.state is HarnessState.READY for version in aspired)
    wanted = aspired or any(version.is_returning for version in versions)
    if leaving and (not wanted or replaced or len(leaving) > 1):
        return Action(Verb.UNLOAD, min(version.id for version in leaving))
    return _load_highest_new(aspired)


def resource_preserving(versions: Sequence[VersionSnapshot]) -> Action | None:
    """Never hold an old version beside a new one, at the price of a gap in between.

    Where one is returning, the gap begins only when its former life has ended: before that,
    nothing could be loaded in the place of what serves.
    """
    leaving = [version for version in versions if not version.is_aspired]
    aspired = [version for version in versions if version.is_aspired]
    ready = [version.id for version in leaving if version.state is HarnessState.READY]
    replaced = any(version.state is HarnessState.READY for version in aspired)
    returning = any(version.is_returning for version in versions)
    if ready and (replaced or not returning):
        return Action(Verb.UNLOAD, min(ready))
    if returning or any(version.state not in _GONE for version in leaving):
        return None
    return _load_highest_new(aspired)


def preserving_everywhere(
    policy: AspiredVersionPolicy, is_everywhere: Callable[[ServableId], bool]
) -> AspiredVersionPolicy:
    """``policy``, of which an unload waits while no other version is available everywhere.

    For several processes that serve the same versions: while one of them still loads the new
    version, the old one can be asked of all. Versions that nobody wants any more do not wait.
    """

    def decide(versions: Sequence[VersionSnapshot]) -> Action | None:
        considered = versions
        while action := policy(considered):
            if action.verb is Verb.LOAD or may_go(action.id, versions):
                return action
            considered = [version for version in considered if version.id != action.id]
        return None

    def may_go(leaving: ServableId, versions: Sequence[VersionSnapshot]) -> bool:
        ready = (each.id for each in versions if each.state is HarnessState.READY)
        replaced = any(each != leaving and is_everywhere(each) for each in ready)
        return replaced or not any(version.is_aspired for version in versions)

    return decide


def _load_highest_new(aspired: Iterable[VersionSnapshot]) -> Action | None:
    new = [version.id for version in aspired if version.state is HarnessState.NEW]
    return Action(Verb.LOAD, max(new)) if new else None
