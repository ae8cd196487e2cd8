"""Does what it is told: loads and unloads versions, lends them out, announces every step."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition, NotFound, ServingError, Unavailable
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
from serving.managers.work_threads import Executor, ExecutorFactory, Work, WorkThreads

_NOT_LOADED = (HarnessState.NEW, HarnessState.DISABLED, HarnessState.ERROR)

Done = Callable[[ServingError | None], None]
"""Hears that a load or unload has ended, with its error if it failed."""


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
        make_executor: ExecutorFactory = WorkThreads,
    ) -> None:
        self._bus = bus
        self._tracker = tracker
        self._retry = retry
        self._on_finished = on_finished
        self._map = ServingMap()
        self._harnesses: dict[ServableId, LoaderHarness] = {}
        self._by_name: dict[str, dict[ServableId, LoaderHarness]] = {}
        self._in_flight: Counter[ServableId] = Counter()
        self._changed = threading.Condition()
        self._stopping = False
        self._load_executor = make_executor(num_load_threads, "load", clock)
        self._unload_executor = make_executor(num_unload_threads, "unload", clock)

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on an available version; raises NotFound."""
        return self._map.servable(request)

    def available(self, name: str | None = None) -> Sequence[ServableId]:
        """Every version that can be looked up now, or every one of this name."""
        return self._map.available(name)

    def in_use(self, servable_id: ServableId) -> bool:
        """Whether anybody holds a lease on this version now."""
        return self._map.in_use(servable_id)

    def states(self, name: str | None = None) -> dict[ServableId, HarnessState]:
        """Every version held, or every one of this name, with where its loader stands."""
        with self._changed:
            held = self._harnesses if name is None else self._by_name.get(name, {})
            return {each: harness.state for each, harness in held.items()}

    def manage(self, data: ServableData[Loader]) -> None:
        """Take a version on; nothing is loaded. One that arrived with an error is in END at once.

        Raises FailedPrecondition when the version is held already, Unavailable once stopped.
        """
        with self._changed:
            self._refuse_once_stopping(data.id)
            if data.id in self._harnesses or data.id in self._in_flight:
                raise FailedPrecondition(
                    f"This servable is already being managed by the manager: {data.id}"
                )
            self._in_flight[data.id] += 1
        # Nobody can find the version before this is told, so that nothing else is told first.
        if data.error:
            self._announce(data.id, ManagerState.END, data.error)
        else:
            self._announce(data.id, ManagerState.START)
        with self._changed:
            harness = LoaderHarness(data, self._retry)
            self._harnesses[data.id] = harness
            self._by_name.setdefault(data.id.name, {})[data.id] = harness
            self._count_down(data.id)

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
            self._in_flight[servable_id] += 1
        # Nobody can take the version on again before this is told.
        if state is HarnessState.NEW:
            self._announce(servable_id, ManagerState.END)
        with self._changed:
            self._count_down(servable_id)

    def load(self, servable_id: ServableId, done: Done = lambda _: None) -> None:
        """Begin to load a version that is new; ``done`` hears how it ended.

        Raises NotFound when it is not held, FailedPrecondition when its load was requested before,
        Unavailable once stopped.
        """
        with self._changed:
            self._refuse_once_stopping(servable_id)
            harness = self._held(servable_id)
            harness.request_load()
            self._in_flight[servable_id] += 1
        self._submit_load(harness, done)

    def cancel_load(self, servable_id: ServableId) -> None:
        """Give up a load: no further attempt, and one that succeeds after all is undone.

        One that waits, for a thread, for room or for another attempt, ends at once. Raises
        NotFound when the version is not held.
        """
        with self._changed:
            self._held(servable_id).cancel_load()
            waiting = self._load_executor.withdraw(servable_id)
        self._tracker.look_again()
        if waiting:
            waiting()

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
        self._load_executor.set_num_threads(num_threads)

    def stop(self) -> None:
        """Cancel all loads, unload everything, and return when nothing is left in memory."""
        with self._changed:
            self._stopping = True
            held = list(self._harnesses)
        for servable_id in held:
            with suppress(NotFound):
                self.cancel_load(servable_id)
        while ready := self._wait_for_ready():
            for servable_id in ready:
                # Somebody else may have been quicker: then it is on its way, and waited for.
                with suppress(NotFound, FailedPrecondition):
                    self.unload(servable_id)
        self._load_executor.close()
        self._unload_executor.close()

    def _refuse_once_stopping(self, servable_id: ServableId) -> None:
        if self._stopping:
            raise Unavailable(f"Servable {servable_id} is not loaded: the server is stopping")

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

    def _submit_load(self, harness: LoaderHarness, done: Done, delay_seconds: float = 0) -> None:
        # Under the lock, so that cancelling either finds the work waiting or is seen here.
        with self._changed:
            seconds = 0 if harness.is_cancelled else delay_seconds
            load = partial(self._load, harness, done)
            failure = _submit(self._load_executor, harness.id, load, seconds)
        if failure:
            self._load_ended(harness, done, failure)

    def _load(self, harness: LoaderHarness, done: Done) -> None:
        """One attempt."""
        failure: ServingError | None = None
        is_loaded = False
        try:
            make_available = partial(self._make_available, harness)
            is_loaded = self._approve(harness) and harness.load(make_available)
        except BaseException as error:  # noqa: BLE001  # whatever a loader raises becomes a state
            failure = presentable(error, f"loading servable {harness.id}")
        if is_loaded or failure:
            self._load_ended(harness, done, failure)
        else:
            # What is mended may need more, and others need not wait for the next attempt.
            self._tracker.release(harness.id)
            self._submit_load(harness, done, harness.retry_seconds)

    def _approve(self, harness: LoaderHarness) -> bool:
        """Reserve what the attempt needs; False when that is to be estimated again."""
        estimate = harness.estimate_resources()
        if estimate is None:
            return False
        self._tracker.reserve(harness.id, estimate, lambda: harness.is_cancelled)
        if harness.state is HarnessState.LOAD_REQUESTED:
            harness.approve_load()
            self._announce(harness.id, ManagerState.LOADING)
        return True

    def _make_available(self, harness: LoaderHarness, servable: Servable) -> None:
        self._tracker.settle(harness.id, harness.loader.estimate_resources())
        self._map.insert(harness.id, servable)
        self._announce(harness.id, ManagerState.AVAILABLE)

    def _load_ended(self, harness: LoaderHarness, done: Done, failure: ServingError | None) -> None:
        if failure:
            harness.fail(failure)
            self._tracker.release(harness.id)
            self._announce(harness.id, ManagerState.END, failure)
        self._finished(harness.id)
        done(failure)

    def _submit_unload(self, harness: LoaderHarness, done: Done) -> None:
        unload = partial(self._unload, harness, done)
        if failure := _submit(self._unload_executor, harness.id, unload):
            harness.fail(failure)
            self._unload_ended(harness, done, failure)

    def _unload(self, harness: LoaderHarness, done: Done) -> None:
        failure: ServingError | None = None
        try:
            harness.done_quiescing()
            harness.unload()
        except ServingError as error:
            failure = error
        self._unload_ended(harness, done, failure)

    def _unload_ended(
        self, harness: LoaderHarness, done: Done, failure: ServingError | None
    ) -> None:
        self._tracker.release(harness.id)
        self._announce(harness.id, ManagerState.END, failure)
        self._finished(harness.id)
        done(failure)

    def _finished(self, servable_id: ServableId) -> None:
        with self._changed:
            self._count_down(servable_id)
        self._on_finished(servable_id.name)

    def _count_down(self, servable_id: ServableId) -> None:
        self._in_flight[servable_id] -= 1
        if not self._in_flight[servable_id]:
            del self._in_flight[servable_id]
        self._changed.notify_all()

    def _announce(
        self, servable_id: ServableId, state: ManagerState, error: ServingError | None = None
    ) -> None:
        self._bus.publish(ServableState(servable_id, state, error))


def _submit(
    executor: Executor, servable_id: ServableId, work: Work, delay_seconds: float = 0
) -> ServingError | None:
    """Returns why the work can not be done, where it can not."""
    try:
        executor.submit(servable_id, work, delay_seconds)
    except Exception as error:  # noqa: BLE001  # it becomes a state
        return presentable(error, f"beginning work on servable {servable_id}")
    return None
