"""Watches base paths for version directories, and aspires to those that a policy selects."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.core.clock import Clock
from serving.core.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)
from serving.core.periodic import PeriodicThread
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.core.source import AspiredVersions
from serving.sources.storage import without_secrets
from serving.sources.storages import storage_for
from serving.sources.version_contents import VersionContents

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"\s*-?[0-9]+\s*", re.ASCII)
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class MonitoredServable:
    """One base path to watch, and which of the versions under it to serve."""

    name: str
    base_path: str
    version_policy: VersionPolicy

    @property
    def shown_path(self) -> str:
        """The base path for logs and errors."""
        return without_secrets(self.base_path)


class FileSystemStoragePathSource:
    """Emits ``(name, versions with their paths)`` for each servable at every poll. Thread-safe.

    A child of the base path is a version when its whole name is a 64-bit integer (leading zeros
    and surrounding blanks allowed, as in TensorFlow Serving); everything else is ignored. A base
    path that cannot be listed emits nothing for its servable, so that a passing outage of the
    storage unloads nothing; one without versions emits an empty list, which unloads all. Whatever
    goes wrong with one servable is its problem, and keeps no other from being polled.

    A version is emitted once ``contents`` calls it complete. One whose load failed is emitted with
    a higher revision when its files have changed, or when :meth:`retry_failed` asks for it.

    ``poll_interval_seconds``: positive polls so often on a thread of its own, 0 only once and
    negative never, unless :meth:`poll_once` is called.
    """

    def __init__(
        self,
        poll_interval_seconds: float,
        clock: Clock,
        contents: VersionContents | None = None,
        on_polled: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_polled`` is called after each poll that came by itself."""
        self._on_polled = on_polled
        self._poll_interval_seconds = poll_interval_seconds
        self._contents = contents or VersionContents(clock)
        self._found: dict[str, list[tuple[int, str]]] = {}
        self._failed: set[ServableId] = set()
        self._servables: dict[str, MonitoredServable] = {}
        self._problems: dict[str, ServingError] = {}
        self._remarks: dict[str, set[str]] = {}
        self._target: AspiredVersions[str] | None = None
        self._polling = threading.Lock()
        self._thread = PeriodicThread("source", self._poll, poll_interval_seconds, clock)

    def connect(self, target: AspiredVersions[str]) -> None:
        """Name the target; before the first poll, once."""
        self._target = target

    def start(self) -> None:
        """Begin to poll by itself, if the interval says so."""
        if self._poll_interval_seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        """Poll no more; what is aspired to stays so."""
        self._thread.stop()

    def update(self, servables: Sequence[MonitoredServable]) -> None:
        """Watch exactly these from now on.

        Those left out are un-aspired at once, new ones are found by the next poll; so are the
        versions of one whose base path is another now.
        """
        with self._polling:
            dropped = self._servables.keys() - {servable.name for servable in servables}
            for name in dropped:
                self._problems.pop(name, None)
                self._remarks.pop(name, None)
                self._remember(self._servables[name], [])
                self._emit(name, [])
            for servable in servables:
                before = self._servables.get(servable.name)
                if before and before.base_path != servable.base_path:
                    self._remember(before, [])
            self._servables = {servable.name: servable for servable in servables}

    def report_failure(self, servable_id: ServableId) -> None:
        """The load of this version failed; from now on its files are watched for a change."""
        self._failed.add(servable_id)

    def retry_failed(self) -> None:
        """Emit every version whose load failed as worth another try, at the next poll."""
        with self._polling:
            for servable in self._servables.values():
                for path in self._paths_of_failed(servable):
                    self._contents.revise(path)

    @property
    def problems(self) -> Mapping[str, ServingError]:
        """Why some had no versions at the last poll."""
        return self._problems

    def poll_once(self) -> Mapping[str, ServingError]:
        """List every base path and emit what is aspired; returns why some have no versions.

        Raises FailedPrecondition while there is no target.
        """
        if self._target is None:
            raise FailedPrecondition("the source is not connected to a target")
        with self._polling:
            problems = {}
            for servable in self._servables.values():
                if problem := self._poll_safely(servable):
                    problems[servable.name] = problem
                    self._log_once(servable.name, problem)
            self._problems = problems
            return problems

    def _poll(self) -> None:
        self.poll_once()
        self._on_polled()

    def _poll_safely(self, servable: MonitoredServable) -> ServingError | None:
        try:
            return self._poll_servable(servable)
        except ServingError as error:
            return error
        except Exception as error:
            log.exception("polling servable %s failed", servable.name)
            return Internal(f"polling servable {servable.name} failed: {type(error).__name__}")

    def _poll_servable(self, servable: MonitoredServable) -> ServingError | None:
        children = _children(servable)
        found = versions_among(children)
        self._remark(servable, children, found)
        self._remember(servable, found)
        for path in self._paths_of_failed(servable):
            self._contents.look_again(path)
        complete = [(version, path) for version, path in found if self._contents.is_complete(path)]
        if found and not complete:
            return Unavailable(
                f"No version of servable {servable.name} under base path {servable.shown_path} is "
                "complete yet"
            )
        aspired = self._aspired(servable, complete)
        self._emit(servable.name, aspired)
        if found and not aspired and not select(found, servable.version_policy):
            return NotFound(
                f"None of the versions asked for of servable {servable.name} is under base path "
                f"{servable.shown_path}"
            )
        return None if found else _no_versions(servable)

    def _aspired(
        self, servable: MonitoredServable, complete: Sequence[tuple[int, str]]
    ) -> list[ServableData[str]]:
        aspired = []
        for version, path in select(complete, servable.version_policy):
            revision = self._contents.revision(path)
            aspired.append(ServableData(ServableId(servable.name, version), path, revision))
        return aspired

    def _remember(self, servable: MonitoredServable, found: list[tuple[int, str]]) -> None:
        """Note what is there now, and forget what no longer is."""
        before = self._found.pop(servable.name, [])
        for version, path in set(before) - set(found):
            self._contents.forget(path)
            self._failed.discard(ServableId(servable.name, version))
        if found:
            self._found[servable.name] = found

    def _paths_of_failed(self, servable: MonitoredServable) -> list[str]:
        return [
            path
            for version, path in self._found.get(servable.name, [])
            if ServableId(servable.name, version) in self._failed
        ]

    def _emit(self, name: str, versions: Sequence[ServableData[str]]) -> None:
        if self._target is not None:
            self._target(name, versions)

    def _remark(
        self,
        servable: MonitoredServable,
        children: Mapping[str, str],
        found: Sequence[tuple[int, str]],
    ) -> None:
        """Log what an operator may have overlooked, when it appears and not at every poll."""
        prefix = f"servable {servable.name} under base path {servable.shown_path}: "
        remarks = {
            f"{prefix}{name} is no version, as it does not fit 64 bits"
            for name in children
            if _NUMBER.fullmatch(name) and int(name) not in _INT64
        }
        if isinstance(servable.version_policy, SpecificVersions):
            there = {number for number, _ in found}
            remarks |= {
                f"{prefix}version {version} was asked for but is not there"
                for version in servable.version_policy.versions - there
            }
        for remark in sorted(remarks - self._remarks.get(servable.name, set())):
            log.warning("%s", remark)
        self._remarks[servable.name] = remarks

    def _log_once(self, name: str, problem: ServingError) -> None:
        """A problem is logged when it appears, not at every poll."""
        before = self._problems.get(name)
        if before is None or before.message != problem.message:
            log.warning("%s", problem.message)


def versions_among(children: Mapping[str, str]) -> list[tuple[int, str]]:
    """The versions among a directory's children, which are paths by name, each with its path.

    Sorted by version, then path. Two names may stand for one version ("1", "001").
    """
    numbered = [(int(name), path) for name, path in children.items() if _NUMBER.fullmatch(name)]
    return sorted((number, path) for number, path in numbered if number in _INT64)


def select(found: Sequence[tuple[int, str]], policy: VersionPolicy) -> list[tuple[int, str]]:
    """The versions that the policy wants, out of those found in ascending order.

    Where two paths stand for one version, the last in string order is taken; under
    :class:`AllVersions` both are.
    """
    if isinstance(policy, AllVersions):
        return list(found)
    unique = dict(found)
    if isinstance(policy, LatestVersions):
        return sorted(unique.items())[-policy.count :]
    return sorted((number, path) for number, path in unique.items() if number in policy.versions)


def _children(servable: MonitoredServable) -> Mapping[str, str]:
    """What lies below the base path, as paths by name.

    Raises InvalidArgument when it can not be listed, for whatever reason: a model is not waited
    for because its store is away.
    """
    try:
        return storage_for(servable.base_path).children(servable.base_path)
    except ServingError as error:
        raise InvalidArgument(
            f"Could not find base path {servable.shown_path} for servable "
            f"{servable.name} ({error.message})"
        ) from error


def _no_versions(servable: MonitoredServable) -> ServingError:
    return NotFound(
        f"No versions of servable {servable.name} found under base path {servable.shown_path}."
        " Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )
