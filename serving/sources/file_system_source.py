"""Watches base paths for version directories, and aspires to those that a policy selects."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError
from serving.core.model_config import AllVersions, LatestVersions, VersionPolicy
from serving.core.periodic import PeriodicThread
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.core.source import AspiredVersions

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"\s*-?[0-9]+\s*", re.ASCII)
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class MonitoredServable:
    """One base path to watch, and which of the versions under it to serve."""

    name: str
    base_path: str
    version_policy: VersionPolicy


class FileSystemStoragePathSource:
    """Emits ``(name, versions with their paths)`` for each servable at every poll. Thread-safe.

    A child of the base path is a version when its whole name is a 64-bit integer (leading zeros
    and surrounding blanks allowed, as in TensorFlow Serving); everything else is ignored. A base
    path that cannot be listed emits nothing for its servable, so that a passing outage of the
    storage unloads nothing; one without versions emits an empty list, which unloads all.

    ``poll_interval_seconds``: positive polls so often on a thread of its own, 0 only once and
    negative never, unless :meth:`poll_once` is called.
    """

    def __init__(self, poll_interval_seconds: float, clock: Clock) -> None:
        self.poll_interval_seconds = poll_interval_seconds
        self._servables: dict[str, MonitoredServable] = {}
        self._problems: dict[str, ServingError] = {}
        self._target: AspiredVersions[str] | None = None
        self._polling = threading.Lock()
        self._thread = PeriodicThread("source", self._poll, poll_interval_seconds, clock)

    def connect(self, target: AspiredVersions[str]) -> None:
        """Name the target; before the first poll, once."""
        self._target = target

    def start(self) -> None:
        """Begin to poll by itself, if the interval says so."""
        if self.poll_interval_seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        """Poll no more; what is aspired to stays so."""
        self._thread.stop()

    def update(self, servables: Sequence[MonitoredServable]) -> None:
        """Watch exactly these from now on.

        Those left out are un-aspired at once, new ones are found by the next poll.
        """
        with self._polling:
            dropped = self._servables.keys() - {servable.name for servable in servables}
            self._servables = {servable.name: servable for servable in servables}
            for name in dropped:
                self._problems.pop(name, None)
                self._emit(name, [])

    def poll_once(self) -> Mapping[str, ServingError]:
        """List every base path and emit what is aspired; returns why some have no versions."""
        with self._polling:
            problems = {}
            for servable in self._servables.values():
                if problem := self._poll_servable(servable):
                    problems[servable.name] = problem
                    self._log_once(servable.name, problem)
            self._problems = problems
            return problems

    def _poll(self) -> None:
        self.poll_once()

    def _poll_servable(self, servable: MonitoredServable) -> ServingError | None:
        try:
            children = os.listdir(servable.base_path)  # noqa: PTH208  # names are wanted, not paths
        except OSError as error:
            return InvalidArgument(
                f"Could not find base path {servable.base_path} for servable {servable.name}"
                f" ({error.strerror})"
            )
        found = versions_among(children)
        aspired = [
            ServableData(ServableId(servable.name, version), f"{servable.base_path}/{child}")
            for version, child in select(found, servable.version_policy)
        ]
        self._emit(servable.name, aspired)
        return None if found else _no_versions(servable)

    def _emit(self, name: str, versions: Sequence[ServableData[str]]) -> None:
        if self._target is None:
            raise FailedPrecondition("the source was polled before it was connected to a target")
        self._target(name, versions)

    def _log_once(self, name: str, problem: ServingError) -> None:
        """A problem is logged when it appears, not at every poll."""
        before = self._problems.get(name)
        if before is None or before.message != problem.message:
            log.warning("%s", problem.message)


def versions_among(children: Sequence[str]) -> list[tuple[int, str]]:
    """The versions among the names of a directory's children, each with its name.

    Sorted by version, then name. Two names may stand for one version ("1", "001").
    """
    numbered = [(int(child), child) for child in children if _NUMBER.fullmatch(child)]
    for number, child in numbered:
        if number not in _INT64:
            log.warning("ignoring directory %s: the version does not fit 64 bits", child)
    return sorted((number, child) for number, child in numbered if number in _INT64)


def select(found: Sequence[tuple[int, str]], policy: VersionPolicy) -> list[tuple[int, str]]:
    """The versions that the policy wants, out of those found in ascending order.

    Where two names stand for one version, the last in string order is taken; under
    :class:`AllVersions` both are.
    """
    if isinstance(policy, AllVersions):
        return list(found)
    unique = dict(found)
    if isinstance(policy, LatestVersions):
        return sorted(unique.items())[-policy.count :]
    for missing in sorted(policy.versions - unique.keys()):
        log.warning("version %d was asked for but is not there", missing)
    return sorted((number, child) for number, child in unique.items() if number in policy.versions)


def _no_versions(servable: MonitoredServable) -> ServingError:
    return NotFound(
        f"No versions of servable {servable.name} found under base path {servable.base_path}."
        " Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )
