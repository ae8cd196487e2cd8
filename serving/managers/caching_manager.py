"""Loads a version when it is first asked for, and unloads the least recently used to make room."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition, NotFound, ResourceExhausted, ServingError
from serving.core.event_bus import EventBus
from serving.core.loader import Loader
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.basic_manager import BasicManager
from serving.managers.loader_harness import HarnessState, RetryPolicy
from serving.managers.resource_tracker import ResourceTracker
from serving.managers.work_threads import ExecutorFactory, WorkThreads


class CachingManager:
    """A target like :class:`AspiredVersionsManager` that loads nothing before it is asked for.

    The first look-up of a version loads it, and those that come meanwhile wait for the same load;
    one that failed is tried again by the next look-up. What would not fit below ``limit`` makes
    room first: versions unused for longest are unloaded, once nobody holds them. Thread-safe; a
    look-up of a loaded version takes no lock.
    """

    def __init__(
        self,
        *,
        bus: EventBus[ServableState],
        clock: Clock,
        limit: ResourceAllocation | None = None,
        num_load_threads: int = 0,
        num_unload_threads: int = 0,
        make_executor: ExecutorFactory = WorkThreads,
    ) -> None:
        self._bus = bus
        self._limit = limit or ResourceAllocation()
        self._tracker = ResourceTracker(self._limit)
        self._aspired: dict[str, dict[int, ServableData[Loader]]] = {}
        self._used: dict[ServableId, int] = {}
        self._uses = itertools.count()
        self._lock = threading.Lock()
        self._loading: dict[ServableId, threading.Lock] = {}
        self._leaving: dict[ServableId, threading.Event] = {}
        self._making_room = threading.Lock()
        self._basic = BasicManager(
            bus=bus,
            clock=clock,
            tracker=self._tracker,
            retry=RetryPolicy(max_retries=0),
            num_load_threads=num_load_threads,
            num_unload_threads=num_unload_threads,
            on_finished=self._unload_unwanted,
            make_executor=make_executor,
        )

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on the version asked for, or on the highest aspired one; loads it if need be.

        Blocks while it loads. Raises NotFound for what nobody aspires to, else the load's error.
        """
        servable_id = self._resolve(request)
        while True:
            self._used[servable_id] = next(self._uses)
            try:
                return self._basic.servable(ServableRequest(*servable_id))
            except NotFound:
                self._load(servable_id)

    def available(self) -> Sequence[ServableId]:
        """Every version that is loaded now."""
        return self._basic.available()

    def aspired_versions(self, name: str, versions: Sequence[ServableData[Loader]]) -> None:
        """Offer exactly these versions of ``name``; those loaded of others are unloaded."""
        with self._lock:
            before = self._aspired.get(name, {})
            self._aspired[name] = {data.id.version: data for data in versions}
        for version in sorted(self._aspired[name].keys() - before.keys()):
            self._bus.publish(ServableState(ServableId(name, version), ManagerState.START))
        self._unload_unwanted()

    def set_num_load_threads(self, num_threads: int) -> None:
        """Load with this many threads from now on."""
        self._basic.set_num_load_threads(num_threads)

    def start(self) -> None:
        """Nothing runs by itself: look-ups do all the work."""

    def stop(self) -> None:
        """Unload everything; returns when nothing is left in memory."""
        self._basic.stop()

    def _resolve(self, request: ServableRequest) -> ServableId:
        versions = self._aspired.get(request.name)
        version = request.version
        if version is None and versions:
            version = max(versions)
        if not versions or version not in versions:
            raise NotFound(f"Servable not found for request: {request}")
        return ServableId(request.name, version)

    def _load(self, servable_id: ServableId) -> None:
        """Load the version, or wait for the one who does; raises the load's error."""
        with self._lock:
            loading = self._loading.setdefault(servable_id, threading.Lock())
        with loading:
            self._wait_until_gone(servable_id)
            while servable_id not in self._basic.states():
                data = self._wanted(servable_id)
                made_room = self._make_room(data)
                failure = self._load_once(data)
                if isinstance(failure, ResourceExhausted) and made_room:
                    continue  # somebody else took the room; there may be more to make
                if failure:
                    raise failure

    def _load_once(self, data: ServableData[Loader]) -> ServingError | None:
        """One attempt; what failed is forgotten, so that the next look-up can try again."""
        ended = threading.Event()
        failures: list[ServingError | None] = []

        def done(failure: ServingError | None) -> None:
            failures.append(failure)
            ended.set()

        self._basic.manage(data)
        if data.error:
            failures.append(data.error)
        else:
            self._basic.load(data.id, done)
            ended.wait()
        if failures[0]:
            self._basic.stop_managing(data.id)
        return failures[0]

    def _wanted(self, servable_id: ServableId) -> ServableData[Loader]:
        data = self._aspired.get(servable_id.name, {}).get(servable_id.version)
        if data is None:
            raise NotFound(f"Servable not found for request: {ServableRequest(*servable_id)}")
        return data

    def _make_room(self, data: ServableData[Loader]) -> bool:
        """Unload the least recently used until the version fits; whether anything was unloaded.

        One that could never fit disturbs nobody: its load is refused.
        """
        needed = self._estimate(data)
        if not needed.fits_in(self._limit):
            return False
        made = False
        with self._making_room:
            while not (self._tracker.used + needed).fits_in(self._limit):
                loaded = self._loaded()
                if not loaded:
                    break
                self._unload(min(loaded, key=lambda held: self._used.get(held, -1)))
                made = True
        return made

    def _estimate(self, data: ServableData[Loader]) -> ResourceAllocation:
        """Nothing where the loader can not tell: its load then says what is wrong."""
        if isinstance(data.payload, ServingError):
            return ResourceAllocation()
        try:
            return data.payload.estimate_resources()
        except Exception:  # noqa: BLE001  # a loader may raise anything; the load shows it as a state
            return ResourceAllocation()

    def _loaded(self) -> list[ServableId]:
        states = self._basic.states().items()
        return [held for held, state in states if state is HarnessState.READY]

    def _unload_unwanted(self, _name: str = "") -> None:
        for servable_id in self._loaded():
            if servable_id.version not in self._aspired.get(servable_id.name, {}):
                self._begin_unload(servable_id)

    def _unload(self, servable_id: ServableId) -> None:
        """Unload; returns once it is gone, for which its last lease must have come back."""
        self._begin_unload(servable_id)
        self._wait_until_gone(servable_id)

    def _begin_unload(self, servable_id: ServableId) -> None:
        """Does nothing for what is already leaving, or has left since it was looked at."""
        with self._lock:
            if servable_id in self._leaving:
                return
            gone = self._leaving[servable_id] = threading.Event()

        def has_left() -> None:
            with self._lock:
                del self._leaving[servable_id]
            gone.set()

        def done(_failure: ServingError | None) -> None:
            self._basic.stop_managing(servable_id)
            self._used.pop(servable_id, None)
            has_left()

        try:
            self._basic.unload(servable_id, done)
        except (NotFound, FailedPrecondition):
            has_left()

    def _wait_until_gone(self, servable_id: ServableId) -> None:
        with self._lock:
            gone = self._leaving.get(servable_id)
        if gone:
            gone.wait()
