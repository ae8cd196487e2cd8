"""Does what it is told: loads and unloads versions, lends them out, announces every step."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition, NotFound, ServingError
from serving.core.event_bus import EventBus
from serving.core.loader import Loader
from serving.core.servable import Servable
from serving.core.servable_data import ServableData
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.loader_harness import (
    HarnessState,
    LoaderHarness,
    RetryPolicy,
    presentable,
)
from serving.managers.resource_tracker import ResourceTracker
from serving.managers.serving_map import ServingMap

_NOT_LOADED = (HarnessState.NEW, HarnessState.DISABLED, HarnessState.ERROR)

ExecutorFactory = Callable[[int, str], Executor]
"""Makes the pool that loads or unloads, from a number of threads and a name for them."""


Done = Callable[[ServingError | None], None]
"""Hears that a load or unload has ended, with its error if it failed."""


def thread_pool(num_threads: int, name: str) -> Executor:
    """A pool of threads; 0 means one, so that work is done one by one but never in the caller."""
    return ThreadPoolExecutor(max(1, num_threads), thread_name_prefix=name)


class BasicManager:
    """Holds versions and their loaders. Thread-safe.

    Decides nothing: somebody else says what to load and unload, and when. Both go on in the
    background; the event bus tells how they ended, and ``on_finished`` is called with the name
    after each. Look-ups take no lock that a load or unload holds, and an unload waits only for the
    leases of its own version.
    """

    def __init__(
        self,
        *,
        bus: EventBus[ServableState],
        clock: Clock,
        tracker: ResourceTracker,
        retry: RetryPolicy,
        num_load_threads: int,
        num_unload_threads: int,
        on_finished: Callable[[str], None],
        make_executor: ExecutorFactory = thread_pool,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._tracker = tracker
        self._retry = retry
        self._on_finished = on_finished
        self._make_executor = make_executor
        self._map = ServingMap()
        self._harnesses: dict[ServableId, LoaderHarness] = {}
        self._by_name: dict[str, dict[ServableId, LoaderHarness]] = {}
        self._in_flight: Counter[ServableId] = Counter()
        self._changed = threading.Condition()
        self._load_executor = make_executor(num_load_threads, "load")
        self._unload_executor = make_executor(num_unload_threads, "unload")

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on an available version; raises NotFound."""
        return self._map.servable(request)

    def available(self) -> Sequence[ServableId]:
        """Every version that can be looked up now."""
        return self._map.available()

    def states(self, name: str | None = None) -> dict[ServableId, HarnessState]:
        """Every version held, or every one of this name, with where its loader stands."""
        with self._changed:
            held = self._harnesses if name is None else self._by_name.get(name, {})
            return {each: harness.state for each, harness in held.items()}

    def manage(self, data: ServableData[Loader]) -> None:
        """Take a version on; nothing is loaded. One that arrived with an error is in END at once.

        Raises FailedPrecondition when the version is held already.
        """
        with self._changed:
            if data.id in self._harnesses:
                raise FailedPrecondition(
                    f"This servable is already being managed by the manager: {data.id}"
                )
            harness = LoaderHarness(data, self._retry, self._clock)
            self._harnesses[data.id] = harness
            self._by_name.setdefault(data.id.name, {})[data.id] = harness
        if data.error:
            self._announce(data.id, ManagerState.END, data.error)
        else:
            self._announce(data.id, ManagerState.START)

    def forgettable(self, name: str) -> list[ServableId]:
        """The versions of this name that :meth:`stop_managing` would take."""
        with self._changed:
            return [held for held in self._by_name.get(name, {}) if self._is_forgettable(held)]

    def stop_managing(self, servable_id: ServableId) -> None:
        """Forget a version that is not loaded: new, unloaded or failed.

        Raises NotFound when it is not held, FailedPrecondition when it is in use.
        """
        with self._changed:
            state = self._held(servable_id).state
            if not self._is_forgettable(servable_id):
                raise FailedPrecondition(
                    f"Servable {servable_id} is {state.value} and can not be forgotten"
                )
            del self._harnesses[servable_id]
            del self._by_name[servable_id.name][servable_id]
            if not self._by_name[servable_id.name]:
                del self._by_name[servable_id.name]
        if state is HarnessState.NEW:
            self._announce(servable_id, ManagerState.END)

    def load(self, servable_id: ServableId, done: Done = lambda _: None) -> None:
        """Begin to load a version that is new; ``done`` hears how it ended.

        Raises NotFound when it is not held, FailedPrecondition when its load was requested before.
        """
        with self._changed:
            harness = self._held(servable_id)
            harness.request_load()
            self._in_flight[servable_id] += 1
            self._load_executor.submit(self._load, harness, done)

    def cancel_load(self, servable_id: ServableId) -> None:
        """Give up a load: no further attempt, and one that succeeds after all is undone.

        Raises NotFound when the version is not held.
        """
        with self._changed:
            self._held(servable_id).cancel_load()

    def unload(self, servable_id: ServableId, done: Done = lambda _: None) -> None:
        """Begin to unload an available version: announce it, stop lending it, wait for its leases.

        ``done`` hears how it ended. Raises NotFound when it is not held, FailedPrecondition when
        it is not available.
        """
        with self._changed:
            harness = self._held(servable_id)
            harness.request_unload()
            self._in_flight[servable_id] += 1
        self._tracker.begin_unload(servable_id)
        self._announce(servable_id, ManagerState.UNLOADING)
        harness.start_quiescing()
        self._map.remove(servable_id, partial(self._submit_unload, harness, done))

    def set_num_load_threads(self, num_threads: int) -> None:
        """Load with this many threads from now on; loads in progress go on where they are."""
        with self._changed:
            before = self._load_executor
            self._load_executor = self._make_executor(num_threads, "load")
        before.shutdown(wait=False)

    def stop(self) -> None:
        """Cancel all loads, unload everything, and return when nothing is left in memory."""
        with self._changed:
            held = list(self._harnesses)
        for servable_id in held:
            self.cancel_load(servable_id)
        while ready := self._wait_for_ready():
            for servable_id in ready:
                self.unload(servable_id)
        self._load_executor.shutdown()
        self._unload_executor.shutdown()

    def _held(self, servable_id: ServableId) -> LoaderHarness:
        try:
            return self._harnesses[servable_id]
        except KeyError:
            raise NotFound(
                f"This servable is not being managed by the manager: {servable_id}"
            ) from None

    def _is_forgettable(self, servable_id: ServableId) -> bool:
        idle = servable_id not in self._in_flight
        return idle and self._harnesses[servable_id].state in _NOT_LOADED

    def _wait_for_ready(self) -> list[ServableId]:
        """The versions that can be unloaded, or none once nothing is in flight any more."""

        def ready() -> list[ServableId]:
            return [
                held
                for held, harness in self._harnesses.items()
                if harness.state is HarnessState.READY and held not in self._in_flight
            ]

        with self._changed:
            self._changed.wait_for(lambda: ready() or not self._in_flight)
            return ready()

    def _load(self, harness: LoaderHarness, done: Done) -> None:
        failure: ServingError | None = None

        def make_available(servable: Servable) -> None:
            self._tracker.settle(harness.id, harness.loader.estimate_resources())
            self._map.insert(harness.id, servable)
            self._announce(harness.id, ManagerState.AVAILABLE)

        try:
            self._tracker.reserve(harness.id, harness.estimate_resources())
            harness.approve_load()
            self._announce(harness.id, ManagerState.LOADING)
            harness.load(make_available)
        except BaseException as error:  # noqa: BLE001  # whatever a loader raises becomes a state
            failure = presentable(error, f"loading servable {harness.id}")
            harness.fail(failure)
            self._tracker.release(harness.id)
            self._announce(harness.id, ManagerState.END, failure)
        self._finished(harness.id)
        done(failure)

    def _unload(self, harness: LoaderHarness, done: Done) -> None:
        failure: ServingError | None = None
        try:
            harness.done_quiescing()
            harness.unload()
        except ServingError as error:
            failure = error
        self._tracker.release(harness.id)
        self._announce(harness.id, ManagerState.END, failure)
        self._finished(harness.id)
        done(failure)

    def _submit_unload(self, harness: LoaderHarness, done: Done) -> None:
        self._unload_executor.submit(self._unload, harness, done)

    def _finished(self, servable_id: ServableId) -> None:
        with self._changed:
            self._in_flight[servable_id] -= 1
            if not self._in_flight[servable_id]:
                del self._in_flight[servable_id]
            self._changed.notify_all()
        self._on_finished(servable_id.name)

    def _announce(
        self, servable_id: ServableId, state: ManagerState, error: ServingError | None = None
    ) -> None:
        self._bus.publish(ServableState(servable_id, state, error))
