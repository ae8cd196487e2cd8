"""Loads a version when it is first asked for, and unloads the least recently used to make room."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter

from serving.core.clock import Clock
from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Gone,
    NoRoom,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.core.event_bus import EventBus
from serving.core.loader import Loader
from serving.core.models import Leased
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.basic_manager import BasicManager
from serving.managers.cached_version import CachedVersion, Phase, WaitingLookUp
from serving.managers.deadlines import Deadlines
from serving.managers.loader_harness import RetryPolicy, presentable
from serving.managers.making_room import Share, make_room
from serving.managers.resource_tracker import ResourceTracker
from serving.managers.work_threads import ExecutorFactory, WorkThreads

log = logging.getLogger(__name__)

_NUM_LENDING_THREADS = 8
"""How many of those who waited may run at once; a run that hangs must not hold up the others."""

_NUM_ESTIMATING_THREADS = 64
"""How many may look at once how much they need; a store that is away keeps each for seconds."""

_MAX_NEW_ESTIMATES = 3
"""How often a load that turns out to need more room than was made for it gets more made."""

_Todo = list[Callable[[], object]]
"""What is to be done once the lock is released."""


_Tell = Callable[[WaitingLookUp, ServableHandle | ServingError], None]


class CachingManager:
    """A target like :class:`AspiredVersionsManager` that loads nothing before it is asked for.

    The first look-up of a version loads it, and those that come meanwhile wait for the same load,
    none of them with a thread; one that failed is tried again by the next look-up. What would not
    fit below ``limit`` makes room first: versions unused for longest are unloaded, those that
    nobody holds before others. Thread-safe; a look-up of a loaded version takes no lock.
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
        self._tracker = ResourceTracker(self._limit, waits=False)
        self._offers: dict[ServableRequest, CachedVersion] = {}
        self._requests: dict[str, Sequence[ServableRequest]] = {}
        self._versions: dict[str, dict[int, CachedVersion]] = {}
        self._queue: dict[CachedVersion, None] = {}
        self._uses = itertools.count()
        self._lock = threading.Lock()
        self._stopped = False
        self._deadlines = Deadlines(clock)
        self._lending = make_executor(_NUM_LENDING_THREADS, "lend", clock)
        self._estimating = make_executor(_NUM_ESTIMATING_THREADS, "estimate", clock)
        steps: EventBus[ServableState] = EventBus()
        steps.subscribe(self._relay)
        self._basic = BasicManager(
            bus=steps,
            clock=clock,
            tracker=self._tracker,
            retry=RetryPolicy(max_retries=0),
            num_load_threads=num_load_threads,
            num_unload_threads=num_unload_threads,
            on_finished=lambda _name: None,
            make_executor=make_executor,
        )

    def servable(self, request: ServableRequest) -> ServableHandle:
        """A lease on the version asked for, or the highest one offered.

        Raises NotFound when it is not loaded; :meth:`lend` loads it.
        """
        version = self._offers.get(request)
        if version is None:
            raise _not_found(request)
        version.used = next(self._uses)
        return self._basic.servable(version.request)

    def lend(self, request: ServableRequest, deadline: float | None, leased: Leased) -> None:
        """Lend the version asked for, or the highest one offered; loads it if need be.

        Never blocks nor raises. ``leased`` hears, as :meth:`core.models.Models.lease` says,
        NotFound for what nobody offers, DeadlineExceeded when the load takes longer (it goes on),
        or the load's error.
        """
        try:
            handle = self.servable(request)
        except NotFound:
            self._wait(WaitingLookUp(request, leased), deadline)
        else:
            leased(handle)

    def available(self) -> Sequence[ServableId]:
        """Every version that is loaded now."""
        return self._basic.available()

    def offered(self) -> Sequence[ServableId]:
        """Every version that can be asked for, loaded or not."""
        return sorted({version.id for version in list(self._offers.values())})

    def is_offered(self, name: str) -> bool:
        """Whether any version of ``name`` can be asked for."""
        return ServableRequest(name) in self._offers

    def aspired_versions(self, name: str, versions: Sequence[ServableData[Loader]]) -> None:
        """Offer exactly these versions of ``name``; those loaded of others are unloaded.

        Who waits for one of the others waits for what their request means now.
        """
        wanted = {data.id.version: data for data in versions}
        with self._lock:
            todo: _Todo = []
            left: list[WaitingLookUp] = []
            held = self._versions.get(name, {})
            for version in [held[number] for number in held.keys() - wanted.keys()]:
                left += version.take_waiting()
                todo += self._withdraw(version)
            for number in sorted(wanted):
                todo += self._offer(wanted[number])
            self._update_offers(name)
            for waiting in left:
                todo += self._admit(waiting, self._tell_later)
        _do(todo)
        self._advance()

    def set_num_load_threads(self, num_threads: int) -> None:
        """Load with this many threads from now on."""
        self._basic.set_num_load_threads(num_threads)

    def start(self) -> None:
        """Begin to hold look-ups to their deadlines."""
        self._deadlines.start()

    def stop(self) -> None:
        """Refuse who waits, unload everything; returns when nothing is left in memory."""
        with self._lock:
            self._stopped = True
            self._queue.clear()
            held = [
                version for versions in self._versions.values() for version in versions.values()
            ]
            todo: _Todo = [
                partial(self._tell, waiting, _shutting_down())
                for version in held
                for waiting in version.take_waiting()
            ]
        _do(todo)
        self._deadlines.stop()
        self._basic.stop()
        self._estimating.close()
        self._lending.close()

    def _wait(self, waiting: WaitingLookUp, deadline: float | None) -> None:
        with self._lock:
            todo = self._admit(waiting, self._tell)
            if waiting.version and deadline is not None:
                waiting.deadline = self._deadlines.add(deadline, partial(self._give_up, waiting))
        _do(todo)
        self._advance()

    def _admit(self, waiting: WaitingLookUp, tell: _Tell) -> _Todo:
        """Have it wait for the version that its request means now, or tell it what is known."""
        version = self._offers.get(waiting.request)
        if self._stopped:
            return [partial(tell, waiting, _shutting_down())]
        if version is None:
            return [partial(tell, waiting, _not_found(waiting.request))]
        return self._admit_to(version, waiting, tell)

    def _admit_to(self, version: CachedVersion, waiting: WaitingLookUp, tell: _Tell) -> _Todo:
        if version.phase is Phase.LOADED:
            return [partial(tell, waiting, self._basic.servable(version.request))]
        if version.data.error:
            return [partial(tell, waiting, version.data.error)]
        waiting.version, waiting.id = version, version.id
        version.waiting[waiting] = None
        return self._begin(version) if version.phase is Phase.UNLOADED else []

    def _begin(self, version: CachedVersion) -> _Todo:
        """The first steps towards a load. Without a limit, nobody asks how much it needs."""
        if version.failed:
            self._introduce(version)
        if not self._limit.quantities:
            version.phase = Phase.QUEUED
            self._queue[version] = None
            return []
        version.phase = Phase.ESTIMATING
        estimate = partial(self._estimate, version, version.data)
        submit = partial(self._estimating.submit, version.id, estimate)
        return [partial(self._begin_or_fail, version, submit)]

    def _estimate(self, version: CachedVersion, data: ServableData[Loader]) -> None:
        """Not on the thread of a look-up, nor on those that tell who waited: a loader may have to
        look at a remote store that does not answer.
        """
        needs = _needs(data)
        with self._lock:
            if version.phase is not Phase.ESTIMATING:
                return
            version.needs = needs
            version.phase = Phase.QUEUED
            self._queue[version] = None
        self._advance()

    def _advance(self) -> None:
        """Begin every load for which there is room, and make room for the others."""
        with self._lock:
            todo = self._make_room() if self._queue else []
        _do(todo)

    def _make_room(self) -> _Todo:
        waiting = {version.id: version for version in self._queue}
        plan = make_room(
            [Share(version.id, version.needs) for version in self._queue],
            used=self._tracker.used,
            leaving=self._tracker.leaving,
            limit=self._limit,
            candidates=self._candidates,
        )
        todo: _Todo = []
        for servable_id in plan.unload:
            todo.append(self._unload(self._versions[servable_id.name][servable_id.version]))
        for servable_id in plan.load:
            version = waiting[servable_id]
            del self._queue[version]
            version.phase = Phase.LOADING
            if version.needs.fits_in(self._limit):
                self._tracker.claim(servable_id, version.needs)
            load = partial(self._load, version, version.data)
            todo.append(partial(self._begin_or_fail, version, load))
        return todo

    def _candidates(self) -> Iterator[Share]:
        """What is loaded: first what nobody holds, then by how long it has not been used."""
        loaded = [
            version
            for versions in self._versions.values()
            for version in versions.values()
            if version.phase is Phase.LOADED
        ]
        loaded.sort(key=attrgetter("used"))
        held: list[CachedVersion] = []
        for version in loaded:
            if self._basic.in_use(version.id):
                held.append(version)
            else:
                yield Share(version.id, self._tracker.held_by(version.id))
        for version in held:
            yield Share(version.id, self._tracker.held_by(version.id))

    def _load(self, version: CachedVersion, data: ServableData[Loader]) -> None:
        self._basic.manage(data)
        self._basic.load(version.id, partial(self._load_ended, version))
        if not version.offered:
            self._cancel(version)

    def _begin_or_fail(self, version: CachedVersion, begin: Callable[[], None]) -> None:
        """What keeps a load from beginning is a failure of this version, and of no other."""
        try:
            begin()
        except Exception as error:  # noqa: BLE001  # it becomes a state and an answer
            if not self._stopped:  # else who waited has been told
                self._did_not_begin(version, presentable(error, f"loading servable {version.id}"))

    def _did_not_begin(self, version: CachedVersion, failure: ServingError) -> None:
        with suppress(NotFound, FailedPrecondition):
            self._basic.stop_managing(version.id)
        with self._lock:
            if version.phase not in (Phase.ESTIMATING, Phase.LOADING):
                return
            self._tracker.release(version.id)
            self._announce(version, ManagerState.END, failure)
            todo = self._after_failure(version, failure)
        _do(todo)
        self._advance()

    def _load_ended(self, version: CachedVersion, failure: ServingError | None) -> None:
        if failure:
            self._basic.stop_managing(version.id)
        with self._lock:
            todo = self._after_failure(version, failure) if failure else self._after_load(version)
        _do(todo)
        self._advance()

    def _after_load(self, version: CachedVersion) -> _Todo:
        """Who waited holds the version before anybody can be told to unload it again."""
        version.phase = Phase.LOADED
        version.withdrawn = False
        if not version.offered:
            return [self._unload(version)]
        version.used = next(self._uses)
        version.new_estimates = 0
        return [
            partial(self._tell_later, waiting, self._basic.servable(version.request))
            for waiting in version.take_waiting()
        ]

    def _after_failure(self, version: CachedVersion, failure: ServingError) -> _Todo:
        if not version.offered or version.withdrawn:
            return self._end_life(version)
        version.phase = Phase.UNLOADED
        version.failed = True
        if isinstance(failure, NoRoom) and self._may_be_estimated_anew(version):
            version.new_estimates += 1
            return self._begin(version)
        version.new_estimates = 0
        if isinstance(failure, Gone):
            return self._pass_over(version)
        return [partial(self._tell_later, waiting, failure) for waiting in version.take_waiting()]

    def _may_be_estimated_anew(self, version: CachedVersion) -> bool:
        """Its files may have grown since the first look, or could not be looked at then."""
        few = version.new_estimates < _MAX_NEW_ESTIMATES
        return few and bool(version.waiting) and not version.data.error

    def _pass_over(self, version: CachedVersion) -> _Todo:
        """Answer as after the next look of the source, which will find the version gone.

        Then the one below is the latest, and who names this one is told NOT_FOUND. It stays on
        offer until that look: where a base path is away for a moment, the next look-up is to try
        again, and perhaps nobody looks before the next reload.
        """
        below = self._below(version)
        gone = NotFound(f"Servable {version.id} is not there any more")
        todo: _Todo = []
        for waiting in version.take_waiting():
            if below and waiting.request.version is None:
                todo += self._admit_to(below, waiting, self._tell_later)
            else:
                todo.append(partial(self._tell_later, waiting, gone))
        return todo

    def _below(self, version: CachedVersion) -> CachedVersion | None:
        """The highest version on offer below this one."""
        held = self._versions[version.id.name].values()
        below = [each for each in held if each.offered and each.id < version.id]
        return max(below, key=lambda each: each.id, default=None)

    def _unload(self, version: CachedVersion) -> Callable[[], object]:
        version.phase = Phase.UNLOADING
        self._tracker.begin_unload(version.id)

        def unload() -> None:
            # A stop may have begun to unload it as well.
            with suppress(NotFound, FailedPrecondition):
                self._basic.unload(version.id, partial(self._unload_ended, version))

        return unload

    def _unload_ended(self, version: CachedVersion, _failure: ServingError | None) -> None:
        self._basic.stop_managing(version.id)
        with self._lock:
            todo = self._end_life(version)
        _do(todo)
        self._advance()

    def _end_life(self, version: CachedVersion) -> _Todo:
        """Its END has been announced: it begins anew where it is offered, else it is forgotten."""
        version.phase = Phase.UNLOADED
        version.withdrawn = False
        if not version.offered:
            self._forget(version)
            return []
        if not self._stopped:
            self._introduce(version)
        return [
            action
            for waiting in version.take_waiting()
            for action in self._admit(waiting, self._tell_later)
        ]

    def _offer(self, data: ServableData[Loader]) -> _Todo:
        held = self._versions.setdefault(data.id.name, {})
        version = held.get(data.id.version)
        if version is None:
            version = held[data.id.version] = CachedVersion(data)
            self._introduce(version)
            return []
        arrived_well = version.data.error is None
        version.data = data
        # One that is offered again before it is gone begins its new life once it is.
        version.offered = True
        if data.error and version.phase in (Phase.ESTIMATING, Phase.QUEUED):
            return self._fail_to_begin(version, data.error)
        if version.phase is Phase.UNLOADED and arrived_well != (data.error is None):
            self._introduce(version)
        return []

    def _fail_to_begin(self, version: CachedVersion, error: ServingError) -> _Todo:
        """It turned into an error while it waited for its load."""
        self._queue.pop(version, None)
        version.phase = Phase.UNLOADED
        self._introduce(version)
        return [partial(self._tell_later, waiting, error) for waiting in version.take_waiting()]

    def _withdraw(self, version: CachedVersion) -> _Todo:
        version.offered = False
        if version.phase is Phase.LOADED:
            return [self._unload(version)]
        if version.phase is Phase.LOADING:
            version.withdrawn = True
            return [partial(self._cancel, version)]
        if version.phase is not Phase.UNLOADING:
            if not version.failed:
                self._announce(version, ManagerState.END)
            self._forget(version)
        return []

    def _cancel(self, version: CachedVersion) -> None:
        with suppress(NotFound):  # it has ended, or is about to begin and looks itself
            self._basic.cancel_load(version.id)

    def _forget(self, version: CachedVersion) -> None:
        version.phase = Phase.GONE
        self._queue.pop(version, None)
        held = self._versions[version.id.name]
        del held[version.id.version]
        if not held:
            del self._versions[version.id.name]

    def _update_offers(self, name: str) -> None:
        """The new ones first, so that no look-up in between finds nothing."""
        held = self._versions.get(name, {})
        offered = {version.request: version for version in held.values() if version.offered}
        if offered:
            offered[ServableRequest(name)] = max(offered.values(), key=lambda version: version.id)
        before = self._requests.pop(name, ())
        self._offers.update(offered)
        for request in before:
            if request not in offered:
                del self._offers[request]
        if offered:
            self._requests[name] = tuple(offered)

    def _give_up(self, waiting: WaitingLookUp) -> None:
        """Its deadline has passed; nothing happens when it has been answered."""
        with self._lock:
            version = waiting.version
            if version is None:
                return
            del version.waiting[waiting]
            waiting.version = None
        self._tell(
            waiting,
            DeadlineExceeded(f"The deadline passed before servable {version.id} was loaded"),
        )

    def _tell_later(self, waiting: WaitingLookUp, outcome: ServableHandle | ServingError) -> None:
        """On a thread that nobody else waits for, as what is told may run the model."""
        tell = partial(self._tell, waiting, outcome)
        try:
            self._lending.submit(waiting.id, tell)
        except Exception:
            log.exception("no thread tells %s what became of it; this one does", waiting.request)
            tell()

    def _tell(self, waiting: WaitingLookUp, outcome: ServableHandle | ServingError) -> None:
        if waiting.deadline:
            waiting.deadline.cancel()
        try:
            waiting.leased(outcome)
        except Exception:
            log.exception("what waited for %s failed", waiting.request)

    def _introduce(self, version: CachedVersion) -> None:
        """Announce the beginning of a life, or that it has ended already with an error."""
        error = version.data.error
        version.failed = error is not None
        self._announce(version, ManagerState.END if error else ManagerState.START, error)

    def _announce(
        self, version: CachedVersion, state: ManagerState, error: ServingError | None = None
    ) -> None:
        """Under the lock, so that the order of announcements is that of the lives."""
        self._bus.publish(ServableState(version.id, state, error))

    def _relay(self, state: ServableState) -> None:
        """Of what befalls a version once it loads; that it is known has been said before."""
        if state.state is not ManagerState.START:
            self._bus.publish(state)


def _do(todo: _Todo) -> None:
    """Each, whatever becomes of another."""
    for action in todo:
        try:
            action()
        except Exception:
            log.exception("a step of the models that load on first request failed")


def _needs(data: ServableData[Loader]) -> ResourceAllocation:
    """Nothing where the loader can not tell: its load then says what is wrong."""
    if isinstance(data.payload, ServingError):
        return ResourceAllocation()
    try:
        return data.payload.estimate_resources()
    except BaseException:  # noqa: BLE001  # a loader may raise anything; the load shows it as a state
        return ResourceAllocation()


def _not_found(request: ServableRequest) -> ServingError:
    return NotFound(f"Servable not found for request: {request}")


def _shutting_down() -> ServingError:
    return Unavailable("the server is shutting down")
