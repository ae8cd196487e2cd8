"""Brings what is loaded in line with what sources aspire to, one policy decision after another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

from serving.core.clock import Clock
from serving.core.event_bus import EventBus
from serving.core.loader import Loader
from serving.core.periodic import PeriodicThread
from serving.core.servable_data import ServableData
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ServableState
from serving.managers.basic_manager import BasicManager
from serving.managers.loader_harness import HarnessState, RetryPolicy
from serving.managers.policies import (
    Action,
    AspiredVersionPolicy,
    Verb,
    VersionSnapshot,
    availability_preserving,
)
from serving.managers.resource_tracker import ResourceTracker
from serving.managers.work_threads import ExecutorFactory, WorkThreads

log = logging.getLogger(__name__)

_STILL_LOADING = (HarnessState.LOAD_REQUESTED, HarnessState.LOAD_APPROVED, HarnessState.LOADING)

_ROUND_SECONDS = 1.0
"""How long a servable for which a round failed waits for the next one, at most."""


class AspiredVersionsManager:
    """The target at the end of every source's stream, and the manager that lends out versions.

    Each round (:meth:`tick`) forgets what is gone, applies the latest aspired list of each
    servable, and does what the policy says until it says nothing more. A round comes as soon as
    something has changed, and looks only at the servables it has changed for; what fails for one
    of them is logged and tried again in the next, and disturbs no other. A version leaves
    memory only after a source stopped aspiring to it; one that failed is tried again only when its
    revision rises. Thread-safe; rounds themselves run on one thread.
    """

    def __init__(
        self,
        *,
        bus: EventBus[ServableState],
        clock: Clock,
        tracker: ResourceTracker | None = None,
        retry: RetryPolicy | None = None,
        policy: AspiredVersionPolicy = availability_preserving,
        num_load_threads: int = 0,
        num_unload_threads: int = 0,
        make_executor: ExecutorFactory = WorkThreads,
    ) -> None:
        self._policy = policy
        self._pending: dict[str, Sequence[ServableData[Loader]]] = {}
        self._changed: set[str] = set()
        self._aspired: set[ServableId] = set()
        self._returning: dict[str, Set[ServableId]] = {}
        self._revisions: dict[ServableId, int] = {}
        self._failed: set[str] = set()
        self._lock = threading.Lock()
        self._thread = PeriodicThread("manager", self.tick, _ROUND_SECONDS, clock)
        self._basic = BasicManager(
            bus=bus,
            clock=clock,
            tracker=tracker or ResourceTracker(),
            retry=retry or RetryPolicy(),
            num_load_threads=num_load_threads,
            num_unload_threads=num_unload_threads,
            on_finished=self._note_change,
            make_executor=make_executor,
        )

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on an available version; raises NotFound."""
        return self._basic.servable(request)

    def available(self) -> Sequence[ServableId]:
        """Every version that can be looked up now."""
        return self._basic.available()

    def serves(self, name: str) -> bool:
        """Whether a version of ``name`` can be looked up and is not about to be taken away."""
        pending = self._pending.get(name)
        wanted = None if pending is None else {data.id for data in pending}
        return any(
            servable_id in self._aspired and (wanted is None or servable_id in wanted)
            for servable_id in self._basic.available(name)
        )

    def aspires_to(self, servable_id: ServableId) -> bool:
        """Whether a source wants this version, loaded or failed."""
        return servable_id in self._aspired

    def aspired_versions(self, name: str, versions: Sequence[ServableData[Loader]]) -> None:
        """Serve exactly these versions of ``name``; replaces a list that is not yet applied."""
        with self._lock:
            self._pending[name] = versions
        self._note_change(name)

    def set_num_load_threads(self, num_threads: int) -> None:
        """Load with this many threads from now on."""
        self._basic.set_num_load_threads(num_threads)

    def reconsider(self, name: str) -> None:
        """Ask the policy about this servable once more: something it depends on has changed."""
        self._note_change(name)

    def start(self) -> None:
        """Begin the rounds."""
        self._thread.start()

    def stop(self) -> None:
        """End the rounds, unload everything; returns when nothing is left in memory."""
        self._thread.stop()
        self._basic.stop()

    def tick(self) -> None:
        """One round, over the servables of which something is new."""
        with self._lock:
            names, self._changed = self._changed, set()
        self._failed = set()
        for name in names:
            with self._failing_alone(name):
                self._forget_unwanted(name)
                self._apply_pending(name)
                self._forget_unwanted(name)
        while actions := self._decide(names):
            for action in sorted(actions, key=lambda action: action.verb.value):
                with self._failing_alone(action.id.name):
                    self._do(action)
        with self._lock:
            self._changed |= self._failed

    @contextmanager
    def _failing_alone(self, name: str) -> Iterator[None]:
        """What is raised takes this servable alone out of the round."""
        try:
            yield
        except Exception:
            log.exception("a round for servable %s failed; the next one tries again", name)
            self._failed.add(name)

    def _note_change(self, name: str) -> None:
        with self._lock:
            self._changed.add(name)
        self._thread.wake()

    def _forget_unwanted(self, name: str) -> None:
        for servable_id in self._basic.forgettable(name):
            if servable_id not in self._aspired:
                self._forget(servable_id)

    def _apply_pending(self, name: str) -> None:
        """Apply the latest list, which stays pending until every version of it was taken on.

        A version whose former life has yet to end must not be taken on beside it. Only it waits:
        that life may last for ever, and neither what the list adds nor what it leaves out depends
        on it.
        """
        held = self._basic.states(name)
        with self._lock:
            versions = self._pending.get(name)
            if versions is None:
                return
            wanted = {data.id: data for data in versions}
            # With the look at the list, so that :meth:`serves` is told of one or the other.
            self._aspired -= held.keys() - wanted.keys()
        returning = {
            servable_id
            for servable_id, data in wanted.items()
            if self._waits_for_exit(data, held.get(servable_id))
        }
        self._returning[name] = returning
        for servable_id in held.keys() - wanted.keys():
            if held[servable_id] in _STILL_LOADING:
                self._basic.cancel_load(servable_id)
        for servable_id, data in wanted.items():
            if servable_id not in returning:
                self._take_on(data, held)
        if returning:
            return
        del self._returning[name]
        with self._lock:
            if self._pending[name] is versions:
                del self._pending[name]

    def _waits_for_exit(self, data: ServableData[Loader], state: HarnessState | None) -> bool:
        """Whether a version is wanted again while its former life is still coming to an end.

        One that is still READY is not on its way out: it is simply kept. One that has failed is
        still coming to an end until it can be forgotten.
        """
        if data.id in self._aspired:
            return self._is_revised(data, state) and not self._is_forgettable(data.id)
        return state not in (None, HarnessState.READY)

    def _take_on(self, data: ServableData[Loader], held: Mapping[ServableId, HarnessState]) -> None:
        """Aspire to a version, and have it managed unless it is already."""
        self._aspired.add(data.id)
        if self._is_revised(data, held.get(data.id)):
            self._forget(data.id)
        elif data.id in held:
            return
        self._revisions[data.id] = data.revision
        self._basic.manage(data)

    def _is_revised(self, data: ServableData[Loader], state: HarnessState | None) -> bool:
        """Whether a version that failed comes with a higher revision than the one that failed."""
        revised = data.revision > self._revisions.get(data.id, data.revision)
        return revised and state is HarnessState.ERROR

    def _is_forgettable(self, servable_id: ServableId) -> bool:
        return servable_id in self._basic.forgettable(servable_id.name)

    def _forget(self, servable_id: ServableId) -> None:
        self._basic.stop_managing(servable_id)
        self._revisions.pop(servable_id, None)

    def _decide(self, names: set[str]) -> list[Action]:
        """At most one action for each servable that has not failed in this round."""
        actions: list[Action] = []
        for name in names - self._failed:
            with self._failing_alone(name):
                if action := self._policy(self._snapshots(name)):
                    actions.append(action)
        return actions

    def _snapshots(self, name: str) -> list[VersionSnapshot]:
        returning = self._returning.get(name, frozenset())
        return [
            VersionSnapshot(
                servable_id, state, servable_id in self._aspired, servable_id in returning
            )
            for servable_id, state in self._basic.states(name).items()
        ]

    def _do(self, action: Action) -> None:
        if action.verb is Verb.LOAD:
            self._basic.load(action.id)
        else:
            self._basic.unload(action.id)
