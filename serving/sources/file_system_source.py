"""Watches base paths for version directories, and aspires to those that a policy selects."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from serving.core.clock import Clock
from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.core.model_config import VersionPolicy
from serving.core.periodic import PeriodicThread
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.core.source import AspiredVersions
from serving.sources.lister import Lister
from serving.sources.storage import without_secrets
from serving.sources.storages import storage_for
from serving.sources.version_contents import VersionContents
from serving.sources.version_selection import oddities, select, versions_among

log = logging.getLogger(__name__)


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


class _Found(NamedTuple):
    """What lies under a base path: children, paths by name; versions, and those to be had."""

    children: Mapping[str, str]
    versions: list[tuple[int, str]]
    complete: list[tuple[int, str]]


class FileSystemStoragePathSource:
    """Emits ``(name, versions with their paths)`` for each servable at every poll. Thread-safe.

    A child of the base path is a version when its whole name is a 64-bit integer (leading zeros
    and surrounding blanks allowed, as in TensorFlow Serving); everything else is ignored. A base
    path that cannot be listed emits nothing for its servable, so that a passing outage of the
    storage unloads nothing; one without versions emits an empty list, which unloads all. Whatever
    goes wrong with one servable is its problem, and keeps no other from being polled; a base path
    that does not answer keeps the others waiting for seconds once, see :class:`Lister`, and emits
    when it does answer.

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
        """``on_polled`` is called after each poll that came by itself, and each late answer."""
        self._on_polled = on_polled
        self._poll_interval_seconds = poll_interval_seconds
        self._contents = contents or VersionContents(clock)
        self._found: dict[str, list[tuple[int, str]]] = {}
        self._failed: set[ServableId] = set()
        self._servables: dict[str, MonitoredServable] = {}
        self._by_base_path: Mapping[str, Sequence[MonitoredServable]] = {}
        self._problems: dict[str, ServingError] = {}
        self._remarks: dict[str, set[str]] = {}
        self._target: AspiredVersions[str] | None = None
        self._is_stopped = False
        # Held while base paths are listed, of which each may take seconds; the other never.
        self._polling = threading.Lock()
        self._lock = threading.Lock()
        self._lister = Lister(self._look, self._take, self._note_silence, clock)
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
        with self._lock:
            self._is_stopped = True
        self._thread.stop()

    def update(self, servables: Sequence[MonitoredServable]) -> None:
        """Watch exactly these from now on.

        Those left out are un-aspired at once, new ones are found by the next poll; so are the
        versions of one whose base path is another now.
        """
        by_base_path: dict[str, list[MonitoredServable]] = {}
        for servable in servables:
            by_base_path.setdefault(servable.base_path, []).append(servable)
        with self._lock:
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
            self._by_base_path = by_base_path

    def report_failure(self, servable_id: ServableId) -> None:
        """The load of this version failed; from now on its files are watched for a change.

        That of a version that is gone was cancelled, and nothing is left to watch. No lock can be
        taken: what an emission comes to may be told while it is made.
        """
        if self._is_found(servable_id):
            self._failed.add(servable_id)
            # It may have gone in between.
            if not self._is_found(servable_id):
                self._failed.discard(servable_id)

    def report_success(self, servable_id: ServableId) -> None:
        """Forget that a load of this version failed before: it is available."""
        self._failed.discard(servable_id)

    def retry_failed(self) -> None:
        """Emit every version whose load failed as worth another try, at the next poll."""
        with self._lock:
            for name, found in self._found.items():
                for path in self._paths_of_failed([name], found):
                    self._contents.revise(path)

    @property
    def problems(self) -> Mapping[str, ServingError]:
        """Why some had no versions when they were last looked at."""
        return self._problems

    def poll_once(self) -> Mapping[str, ServingError]:
        """List every base path and emit what is aspired; returns why some have no versions.

        Raises FailedPrecondition while there is no target.
        """
        if self._target is None:
            raise FailedPrecondition("the source is not connected to a target")
        with self._polling:
            self._lister.list_all(self._by_base_path)
        with self._lock:
            return dict(self._problems)

    def _poll(self) -> None:
        self.poll_once()
        self._on_polled()

    def _look(self, base_path: str) -> _Found | Exception:
        """All that touches the storage, which may hang; no lock is held."""
        try:
            children = storage_for(base_path).children(base_path)
            found = versions_among(children)
            if self._failed:
                self._look_again(base_path, found)
            complete = self._complete(base_path, found)
        except Exception as error:  # noqa: BLE001  # becomes the problem of each servable there
            return error
        return _Found(children, found, complete)

    def _complete(self, base_path: str, found: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """Of those found, the complete ones that somebody wants: in a store, each look costs."""
        wanted: set[tuple[int, str]] = set()
        for servable in self._by_base_path.get(base_path, ()):
            wanted.update(select(found, servable.version_policy, self._contents.is_complete))
        return sorted(wanted)

    def _look_again(self, base_path: str, found: Sequence[tuple[int, str]]) -> None:
        names = [servable.name for servable in self._by_base_path.get(base_path, ())]
        for path in self._paths_of_failed(names, found):
            self._contents.look_again(path)

    def _take(self, base_path: str, seen: _Found | Exception, is_late: bool) -> None:
        """Emit for whoever watches the base path by now."""
        with self._lock:
            if self._is_stopped:
                return
            servables = self._by_base_path.get(base_path, ())
            for servable in servables:
                self._note(servable.name, self._problem_of(servable, seen))
            if not servables and isinstance(seen, _Found):
                for _, path in seen.versions:
                    self._contents.forget(path)
        if is_late:
            log.warning("Base path %s answers again", without_secrets(base_path))
            self._on_polled()

    def _note_silence(self, base_path: str) -> None:
        with self._lock:
            for servable in self._by_base_path.get(base_path, ()):
                text = (
                    f"Servable {servable.name} can not be looked for: its base path does not "
                    f"answer ({servable.shown_path})"
                )
                self._note(servable.name, DeadlineExceeded(text))

    def _problem_of(
        self, servable: MonitoredServable, seen: _Found | Exception
    ) -> ServingError | None:
        if isinstance(seen, ServingError):
            return _not_found(servable, seen)
        try:
            if isinstance(seen, Exception):
                raise seen
            return self._emit_found(servable, seen)
        except ServingError as error:
            return error
        except Exception as error:
            log.exception("polling servable %s failed", servable.name)
            return Internal(f"polling servable {servable.name} failed: {type(error).__name__}")

    def _emit_found(self, servable: MonitoredServable, seen: _Found) -> ServingError | None:
        """Returns why there is nothing to serve, if so."""
        found = seen.versions
        self._remark(servable, seen)
        self._remember(servable, found)
        wanted = select(found, servable.version_policy)
        aspired = self._aspired(servable, seen.complete)
        if wanted and not aspired:
            return Unavailable(
                f"No version of servable {servable.name} under base path {servable.shown_path} is "
                "complete yet"
            )
        self._emit(servable.name, aspired)
        if found and not wanted:
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
        """Note what is there now, and forget what no longer is.

        What others serve from the same base path stays complete: it is a new life for this one.
        """
        before = self._found.get(servable.name, [])
        if found:
            self._found[servable.name] = found
        else:
            self._found.pop(servable.name, None)
        others = self._found_by_others(servable)
        for version, path in set(before) - set(found):
            if (version, path) in others:
                self._contents.revise(path)
            else:
                self._contents.forget(path)
            self._failed.discard(ServableId(servable.name, version))

    def _is_found(self, servable_id: ServableId) -> bool:
        found = self._found.get(servable_id.name, ())
        return any(version == servable_id.version for version, _ in found)

    def _found_by_others(self, servable: MonitoredServable) -> set[tuple[int, str]]:
        sharing = self._by_base_path.get(servable.base_path, ())
        names = [other.name for other in sharing if other.name != servable.name]
        return {each for name in names for each in self._found.get(name, ())}

    def _paths_of_failed(self, names: Sequence[str], found: Sequence[tuple[int, str]]) -> list[str]:
        """The paths of those found that failed to load as a version of any of these names."""
        return [
            path
            for version, path in found
            if any(ServableId(name, version) in self._failed for name in names)
        ]

    def _emit(self, name: str, versions: Sequence[ServableData[str]]) -> None:
        if self._target is not None:
            self._target(name, versions)

    def _remark(self, servable: MonitoredServable, seen: _Found) -> None:
        """Log what an operator may have overlooked, when it appears and not at every poll."""
        remarks = set(oddities(seen.children, seen.versions, servable.version_policy))
        for remark in sorted(remarks - self._remarks.get(servable.name, set())):
            where = f"servable {servable.name} under base path {servable.shown_path}"
            log.warning("%s: %s", where, remark)
        self._remarks[servable.name] = remarks

    def _note(self, name: str, problem: ServingError | None) -> None:
        """A problem is logged when it appears, not at every poll."""
        before = self._problems.get(name)
        if problem is None:
            self._problems.pop(name, None)
            return
        self._problems[name] = problem
        if before is None or before.message != problem.message:
            log.warning("%s", problem.message)


def _not_found(servable: MonitoredServable, error: ServingError) -> ServingError:
    """Of one code, whatever the reason: a model is not waited for because its store is away."""
    return InvalidArgument(
        f"Could not find base path {servable.shown_path} for servable "
        f"{servable.name} ({error.message})"
    )


def _no_versions(servable: MonitoredServable) -> ServingError:
    return NotFound(
        f"No versions of servable {servable.name} found under base path {servable.shown_path}."
        " Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )
