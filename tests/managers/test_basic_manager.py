"""Loading, lending, unloading and announcing versions, with loads and unloads in this thread."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from serving.core.event_bus import EventBus
from serving.core.loader import Loader
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.basic_manager import BasicManager
from serving.managers.loader_harness import HarnessState, RetryPolicy
from serving.managers.resource_tracker import ResourceTracker
from serving.managers.work_threads import (
    SECONDS_UNTIL_OVERDUE,
    ExecutorFactory,
    Work,
    WorkThreads,
)
from serving.testing import FakeClock, FakeLoader, InlineWork, inline

M1, M2, N1 = ServableId("m", 1), ServableId("m", 2), ServableId("n", 1)


class Managed:
    """A manager with everything it announced and how often it said that something finished."""

    def __init__(
        self,
        *,
        limit: ResourceAllocation | None = None,
        retries: int = 0,
        make_executor: ExecutorFactory = inline,
        num_threads: int = 2,
    ) -> None:
        self.events: list[ServableState] = []
        self.finished = 0
        self._ended = threading.Condition()
        self.clock = FakeClock()
        self.tracker = ResourceTracker(limit)
        self.bus: EventBus[ServableState] = EventBus()
        self.bus.subscribe(self.events.append)
        self.manager = BasicManager(
            bus=self.bus,
            clock=self.clock,
            tracker=self.tracker,
            retry=RetryPolicy(retries, 60),
            num_load_threads=num_threads,
            num_unload_threads=num_threads,
            on_finished=self._count,
            make_executor=make_executor,
        )

    def load(self, servable_id: ServableId, loader: Loader | None = None) -> None:
        self.manager.manage(ServableData(servable_id, loader or FakeLoader()))
        self.manager.load(servable_id)

    def load_and_wait(self, servable_id: ServableId, loader: Loader) -> None:
        ended = threading.Event()
        self.manager.manage(ServableData(servable_id, loader))
        self.manager.load(servable_id, lambda _: ended.set())
        assert ended.wait(WAIT_SECONDS)

    def await_ended(self, count: int) -> None:
        """Return once so many loads and unloads have ended, however they did."""
        with self._ended:
            assert self._ended.wait_for(lambda: self.finished >= count, WAIT_SECONDS)

    def told(self, servable_id: ServableId) -> list[str]:
        return [event.state.name for event in self.events if event.id == servable_id]

    def _count(self, name: str) -> None:
        with self._ended:
            self.finished += 1
            self._ended.notify_all()


def test_each_step_of_a_life_is_announced_in_order() -> None:
    managed = Managed()
    managed.load(M1)
    managed.manager.unload(M1)
    assert managed.told(M1) == ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    assert managed.events[-1].error is None
    assert managed.finished == 2


def test_available_is_announced_once_it_can_be_looked_up_and_unloading_while_it_still_can() -> None:
    managed = Managed()
    seen: list[tuple[str, bool]] = []

    def look(event: ServableState) -> None:
        seen.append((event.state.name, event.id in managed.manager.available()))

    managed.bus.subscribe(look)
    managed.load(M1)
    managed.manager.unload(M1)
    assert seen == [
        ("START", False),
        ("LOADING", False),
        ("AVAILABLE", True),
        ("UNLOADING", True),
        ("END", False),
    ]


def test_a_failed_load_ends_with_its_error_and_frees_what_it_reserved() -> None:
    managed = Managed()
    error = InvalidArgument("broken")
    managed.load(M1, FakeLoader(failures=[error], resources=ResourceAllocation.ram(5)))
    assert managed.told(M1) == ["START", "LOADING", "END"]
    assert managed.events[-1].error is error
    assert managed.tracker.used == ResourceAllocation()
    with pytest.raises(NotFound):
        managed.manager.servable(ServableRequest("m"))


def test_a_version_that_arrives_with_an_error_ends_at_once() -> None:
    managed = Managed()
    error = InvalidArgument("no loader")
    managed.manager.manage(ServableData(M1, error))
    assert managed.events == [ServableState(M1, ManagerState.END, error)]
    with pytest.raises(FailedPrecondition):
        managed.manager.load(M1)


@pytest.mark.parametrize("act", ["load", "unload", "stop_managing", "cancel_load"])
def test_what_is_not_managed_is_not_found(act: str) -> None:
    with pytest.raises(NotFound) as raised:
        getattr(Managed().manager, act)(M1)
    assert raised.value.message == (
        "This servable is not being managed by the manager: {name: m version: 1}"
    )


def test_a_version_is_managed_once() -> None:
    managed = Managed()
    managed.load(M1)
    with pytest.raises(FailedPrecondition, match="already being managed"):
        managed.manager.manage(ServableData(M1, FakeLoader()))


def test_a_version_is_loaded_once_and_unloaded_once() -> None:
    managed = Managed()
    managed.load(M1)
    with pytest.raises(FailedPrecondition, match="Duplicate load request"):
        managed.manager.load(M1)
    managed.manager.unload(M1)
    with pytest.raises(FailedPrecondition, match="Servable not loaded"):
        managed.manager.unload(M1)


def test_only_what_is_not_in_memory_can_be_forgotten() -> None:
    managed = Managed()
    managed.load(M1)
    with pytest.raises(FailedPrecondition, match="is ready and can not be forgotten"):
        managed.manager.stop_managing(M1)
    managed.manager.unload(M1)
    assert managed.manager.forgettable("m") == [M1]
    managed.manager.stop_managing(M1)
    assert managed.manager.states() == {}


def test_forgetting_a_version_that_never_loaded_is_its_end() -> None:
    managed = Managed()
    managed.manager.manage(ServableData(M1, FakeLoader()))
    managed.manager.stop_managing(M1)
    assert managed.told(M1) == ["START", "END"]


def test_an_unload_waits_for_the_leases_of_its_own_version_only() -> None:
    managed = Managed()
    loaders = {M1: FakeLoader(), N1: FakeLoader()}
    for servable_id, loader in loaders.items():
        managed.load(servable_id, loader)
    held = managed.manager.servable(ServableRequest("m"))
    managed.manager.unload(M1)
    managed.manager.unload(N1)
    assert managed.told(N1)[-1] == "END"
    assert managed.told(M1)[-1] == "UNLOADING"
    assert loaders[M1].unloads == 0
    with pytest.raises(NotFound):
        managed.manager.servable(ServableRequest("m"))
    held.release()
    assert managed.told(M1)[-1] == "END"
    assert loaders[M1].unloads == 1


def test_what_does_not_fit_is_refused_and_disturbs_nobody() -> None:
    managed = Managed(limit=ResourceAllocation.ram(100))
    managed.load(M1, FakeLoader(resources=ResourceAllocation.ram(80)))
    managed.load(M2, FakeLoader(resources=ResourceAllocation.ram(30)))
    assert isinstance(managed.events[-1].error, ResourceExhausted)
    assert managed.manager.available() == [M1]


def test_a_loader_that_cannot_even_estimate_ends_in_a_state() -> None:
    class Broken(FakeLoader):
        def estimate_resources(self) -> ResourceAllocation:
            raise OSError("/secret")

    managed = Managed()
    managed.load(M1, Broken())
    assert str(managed.events[-1].error) == (
        "INTERNAL: loading servable {name: m version: 1} failed: OSError"
    )


def test_stopping_cancels_retries_unloads_everything_and_waits() -> None:
    managed = Managed(retries=9, make_executor=WorkThreads)
    loader = FakeLoader()
    managed.load(M1, loader)
    managed.load(N1, FakeLoader(failures=[InvalidArgument("broken")] * 10))
    managed.clock.await_waiters(within_seconds=60)
    managed.manager.stop()
    assert loader.unloads == 1
    assert {managed.told(M1)[-1], managed.told(N1)[-1]} == {"END"}


def test_stopping_waits_for_a_load_in_progress_and_undoes_it() -> None:
    managed = Managed(make_executor=WorkThreads)
    begun, go_on = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        assert go_on.wait(WAIT_SECONDS)

    loader = FakeLoader(before_load=block)
    managed.load(M1, loader)
    assert begun.wait(WAIT_SECONDS)
    stopping = threading.Thread(target=managed.manager.stop, daemon=True)
    stopping.start()
    go_on.set()
    stopping.join(WAIT_SECONDS)
    assert not stopping.is_alive()
    assert loader.unloads == 1
    assert managed.told(M1) == ["START", "LOADING", "END"]


def test_a_slow_load_holds_up_neither_look_ups_nor_other_loads() -> None:
    managed = Managed(make_executor=WorkThreads)
    go_on = threading.Event()
    available = threading.Event()

    def tell(event: ServableState) -> None:
        if event.id == N1 and event.state is ManagerState.AVAILABLE:
            available.set()

    managed.bus.subscribe(tell)
    managed.load(M1, FakeLoader(before_load=lambda: go_on.wait(WAIT_SECONDS)))
    managed.load(N1)
    assert available.wait(WAIT_SECONDS)
    managed.manager.servable(ServableRequest("n")).release()
    assert managed.manager.states()[M1] in (HarnessState.LOADING, HarnessState.LOAD_APPROVED)
    go_on.set()
    managed.manager.stop()


def test_available_lists_what_can_be_looked_up_and_nothing_else() -> None:
    managed = Managed()
    for servable_id in (M2, N1, M1):
        managed.load(servable_id)
    managed.load(ServableId("n", 2), FakeLoader(failures=[InvalidArgument("broken")]))
    managed.manager.manage(ServableData(ServableId("n", 3), FakeLoader()))
    managed.manager.unload(M1)
    assert managed.manager.available() == [M2, N1]


def test_states_tell_every_version_held_of_a_name() -> None:
    managed = Managed()
    managed.load(M1)
    managed.load(M2, FakeLoader(failures=[InvalidArgument("broken")]))
    managed.load(N1)
    assert managed.manager.states("m") == {M1: HarnessState.READY, M2: HarnessState.ERROR}
    assert managed.manager.states("unknown") == {}


def test_version_zero_is_a_version_like_any_other() -> None:
    managed = Managed()
    zero = ServableId("z", 0)
    managed.load(zero)
    assert managed.manager.servable(ServableRequest("z")).id == zero
    assert managed.manager.servable(ServableRequest("z", 0)).id == zero


def test_while_the_highest_version_unloads_the_next_one_is_lent() -> None:
    managed = Managed(make_executor=WorkThreads)
    go_on, unloading = threading.Event(), threading.Event()

    def block() -> None:
        unloading.set()
        go_on.wait(WAIT_SECONDS)

    for servable_id, loader in ((M1, FakeLoader()), (M2, FakeLoader(before_unload=block))):
        managed.load_and_wait(servable_id, loader)
    managed.manager.unload(M2)
    assert unloading.wait(WAIT_SECONDS)
    with managed.manager.servable(ServableRequest("m")) as handle:
        assert handle.id == M1
    go_on.set()
    managed.manager.stop()


def test_the_loader_offered_first_stays_when_a_second_is_refused() -> None:
    managed = Managed()
    first, second = FakeLoader(), FakeLoader()
    managed.manager.manage(ServableData(M1, first))
    with pytest.raises(FailedPrecondition):
        managed.manager.manage(ServableData(M1, second))
    managed.manager.load(M1)
    assert (first.attempts, second.attempts) == (1, 0)


def test_what_is_not_loaded_can_not_be_unloaded() -> None:
    managed = Managed()
    managed.manager.manage(ServableData(M1, FakeLoader()))
    with pytest.raises(FailedPrecondition, match="Servable not loaded"):
        managed.manager.unload(M1)


def test_an_unload_is_done_by_the_manager_s_threads_never_by_who_held_the_last_lease() -> None:
    managed = Managed(make_executor=WorkThreads)
    threads: list[str] = []
    loader = FakeLoader(before_unload=lambda: threads.append(threading.current_thread().name))
    managed.load_and_wait(M1, loader)
    held = managed.manager.servable(ServableRequest("m"))
    managed.manager.unload(M1)
    held.release()
    managed.manager.stop()
    assert [name.split()[0] for name in threads] == ["unload"]


def test_a_failed_or_cancelled_load_is_not_begun_again() -> None:
    managed = Managed()
    managed.load(M1, FakeLoader(failures=[InvalidArgument("broken")]))
    managed.manager.manage(ServableData(M2, FakeLoader()))
    managed.manager.cancel_load(M2)
    managed.manager.load(M2)
    assert str(managed.events[-1].error) == "CANCELLED: Loading of servable cancelled"
    for servable_id in (M1, M2):
        with pytest.raises(FailedPrecondition, match="Duplicate load request"):
            managed.manager.load(servable_id)


@pytest.mark.parametrize("act", ["load", "unload"])
def test_of_many_who_ask_at_once_only_one_succeeds(act: str) -> None:
    managed = Managed(make_executor=WorkThreads)
    loader = FakeLoader()
    if act == "unload":
        managed.load_and_wait(M1, loader)
    else:
        managed.manager.manage(ServableData(M1, loader))
    together = threading.Barrier(4)

    def ask() -> int:
        together.wait(WAIT_SECONDS)
        try:
            getattr(managed.manager, act)(M1)
        except FailedPrecondition:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        successes = sum(asked.result() for asked in [pool.submit(ask) for _ in range(4)])
    managed.await_ended(1 if act == "load" else 2)
    managed.manager.stop()
    assert (successes, loader.attempts, loader.unloads) == (1, 1, 1)


def test_loads_and_unloads_from_many_threads_leave_nothing_behind() -> None:
    managed = Managed(make_executor=WorkThreads)
    loaders = {ServableId("m", version): FakeLoader() for version in range(20)}

    def live(servable_id: ServableId) -> None:
        managed.load_and_wait(servable_id, loaders[servable_id])
        managed.manager.unload(servable_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(live, loaders))
    managed.manager.stop()
    assert managed.manager.available() == []
    for servable_id, loader in loaders.items():
        assert (loader.attempts, loader.unloads) == (1, 1)
        assert managed.told(servable_id)[-3:] == ["AVAILABLE", "UNLOADING", "END"]


def test_loads_that_were_waiting_are_done_when_the_number_of_threads_changes() -> None:
    managed = Managed(make_executor=WorkThreads)
    go_on = threading.Event()
    versions = [ServableId("m", version) for version in range(10)]
    for servable_id in versions:
        managed.load(servable_id, FakeLoader(before_load=lambda: go_on.wait(WAIT_SECONDS)))
    managed.manager.set_num_load_threads(1)
    go_on.set()
    managed.await_ended(len(versions))
    assert managed.manager.available() == versions
    managed.manager.stop()


def test_two_loads_that_fit_together_go_on_at_the_same_time() -> None:
    managed = Managed(limit=ResourceAllocation.ram(10), make_executor=WorkThreads)
    together = threading.Barrier(2)
    for servable_id in (M1, N1):
        half = ResourceAllocation.ram(5)
        managed.load(
            servable_id, FakeLoader(resources=half, before_load=lambda: together.wait(WAIT_SECONDS))
        )
    managed.await_ended(2)
    assert managed.manager.available() == [M1, N1]
    managed.manager.stop()


def test_a_refused_load_makes_way_for_the_next() -> None:
    managed = Managed(limit=ResourceAllocation.ram(10))
    managed.load(M1, FakeLoader(resources=ResourceAllocation.ram(11)))
    managed.load(N1, FakeLoader(resources=ResourceAllocation.ram(10)))
    assert managed.manager.available() == [N1]
    assert managed.manager.states("m") == {M1: HarnessState.ERROR}


class Shrinking(FakeLoader):
    """Needs ten bytes to load, and holds five afterwards."""

    def estimate_resources(self) -> ResourceAllocation:
        return ResourceAllocation.ram(5 if self.servable else 10)


def test_what_a_load_turns_out_not_to_hold_is_there_for_the_next() -> None:
    managed = Managed(limit=ResourceAllocation.ram(10))
    managed.load(M1, Shrinking())
    managed.load(N1, FakeLoader(resources=ResourceAllocation.ram(5)))
    assert managed.manager.available() == [M1, N1]


def test_what_an_unload_frees_is_there_for_a_load_that_waits_for_it() -> None:
    managed = Managed(limit=ResourceAllocation.ram(10), make_executor=WorkThreads)
    go_on = threading.Event()
    all_of_it = ResourceAllocation.ram(10)
    leaving = FakeLoader(resources=all_of_it, before_unload=lambda: go_on.wait(WAIT_SECONDS))
    managed.load_and_wait(M1, leaving)
    managed.manager.unload(M1)
    managed.load(N1, FakeLoader(resources=all_of_it))
    go_on.set()
    managed.await_ended(3)
    assert managed.manager.available() == [N1]
    managed.manager.stop()


@pytest.mark.parametrize("raised", [SystemExit(1), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_a_load_that_would_end_its_thread_ends_in_a_state_and_the_next_one_loads(
    raised: BaseException,
) -> None:
    managed = Managed(make_executor=WorkThreads)
    managed.manager.set_num_load_threads(1)
    managed.load(M1, FakeLoader(failures=[raised], resources=ResourceAllocation.ram(5)))
    managed.load(N1)
    managed.await_ended(2)
    assert managed.manager.available() == [N1]
    (end,) = [event for event in managed.events if event.state is ManagerState.END]
    assert str(end.error) == (
        f"INTERNAL: loading servable {{name: m version: 1}} failed: {type(raised).__name__}"
    )
    managed.manager.stop()
    assert managed.tracker.used == ResourceAllocation()


def test_an_unload_that_would_end_its_thread_ends_in_a_state() -> None:
    def leave() -> None:
        raise SystemExit

    managed = Managed(make_executor=WorkThreads)
    managed.load_and_wait(M1, FakeLoader(before_unload=leave))
    managed.manager.unload(M1)
    managed.manager.stop()
    assert str(managed.events[-1].error) == (
        "INTERNAL: unloading servable {name: m version: 1} failed: SystemExit"
    )


def test_a_version_that_may_not_be_read_says_so_whether_it_estimates_or_loads() -> None:
    denied = PermissionError(errno.EACCES, "/secret")

    class Unreadable(FakeLoader):
        def estimate_resources(self) -> ResourceAllocation:
            raise denied

    managed = Managed()
    managed.load(M1, Unreadable())
    managed.load(M2, FakeLoader(failures=[denied]))
    managed.load(N1)
    ends = [event for event in managed.events if event.state is ManagerState.END]
    assert [str(end.error) for end in ends] == [
        f"PERMISSION_DENIED: loading servable {{name: m version: {version}}} failed: "
        "PermissionError (Permission denied)"
        for version in (1, 2)
    ]
    assert managed.manager.available() == [N1]


class Gate:
    """A load that tells when it has begun, and goes on only when it is let."""

    def __init__(self, resources: ResourceAllocation | None = None) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.loader = FakeLoader(resources=resources, before_load=self._wait)

    def _wait(self) -> None:
        self.begun.set()
        assert self.go_on.wait(WAIT_SECONDS)


def one_by_one(retries: int = 0) -> Managed:
    return Managed(retries=retries, make_executor=WorkThreads, num_threads=0)


def test_the_wait_for_another_attempt_holds_no_thread_and_ends_in_time() -> None:
    managed = one_by_one(retries=1)
    loader = FakeLoader(failures=[InvalidArgument("not yet")])
    managed.load(M1, loader)
    managed.load(N1)
    managed.await_ended(1)
    assert managed.manager.available() == [N1]
    assert loader.attempts == 1
    managed.clock.advance(60)
    managed.await_ended(2)
    assert managed.manager.available() == [M1, N1]
    assert managed.told(M1) == ["START", "LOADING", "AVAILABLE"]
    managed.manager.stop()


def test_an_estimate_that_fails_is_asked_for_again_before_anything_is_reserved() -> None:
    class Slow(FakeLoader):
        misses = 1

        def estimate_resources(self) -> ResourceAllocation:
            if self.misses:
                self.misses -= 1
                raise InvalidArgument("not yet")
            return ResourceAllocation.ram(7)

    managed = one_by_one(retries=1)
    managed.load(M1, Slow())
    managed.load(N1)
    managed.await_ended(1)
    assert managed.told(M1) == ["START"]
    managed.clock.advance(60)
    managed.await_ended(2)
    assert managed.tracker.used == ResourceAllocation.ram(7)
    managed.manager.stop()


def test_what_grows_between_two_attempts_is_held_to_the_limit_and_keeps_no_room_meanwhile() -> None:
    class Growing(FakeLoader):
        def estimate_resources(self) -> ResourceAllocation:
            return ResourceAllocation.ram(8 + 80 * self.attempts)

    all_of_it = ResourceAllocation.ram(10)
    managed = Managed(retries=1, limit=all_of_it, make_executor=WorkThreads, num_threads=0)
    managed.load(M1, Growing(failures=[InvalidArgument("half of it is missing")]))
    managed.load(N1, FakeLoader(resources=all_of_it))
    managed.await_ended(1)
    assert managed.manager.available() == [N1]
    managed.clock.advance(60)
    managed.await_ended(2)
    assert managed.told(M1) == ["START", "LOADING", "END"]
    assert isinstance(managed.events[-1].error, ResourceExhausted)
    assert managed.tracker.used == all_of_it
    managed.manager.stop()


def test_cancelling_ends_the_wait_for_another_attempt_at_once() -> None:
    managed = one_by_one(retries=9)
    loader = FakeLoader(
        failures=[InvalidArgument("broken")] * 9, resources=ResourceAllocation.ram(5)
    )
    managed.load(M1, loader)
    managed.load(N1)
    managed.await_ended(1)
    managed.manager.cancel_load(M1)
    assert str(managed.events[-1].error) == "CANCELLED: Loading of servable cancelled"
    assert managed.manager.states("m") == {M1: HarnessState.ERROR}
    assert loader.attempts == 1
    assert managed.tracker.used == ResourceAllocation()
    managed.manager.stop()


def test_an_attempt_that_fails_after_it_was_cancelled_is_the_last() -> None:
    managed = one_by_one(retries=9)
    failing = [InvalidArgument("broken")] * 9
    loader = FakeLoader(failures=failing, before_load=lambda: managed.manager.cancel_load(M1))
    managed.load(M1, loader)
    managed.await_ended(1)
    assert managed.told(M1) == ["START", "LOADING", "END"]
    assert loader.attempts == 1
    managed.manager.stop()


def test_cancelling_ends_the_wait_for_a_thread_at_once() -> None:
    managed, slow, waiting = one_by_one(), Gate(), FakeLoader()
    managed.load(N1, slow.loader)
    assert slow.begun.wait(WAIT_SECONDS)
    managed.load(M1, waiting)
    managed.manager.cancel_load(M1)
    assert managed.told(M1) == ["START", "END"]
    assert waiting.attempts == 0
    slow.go_on.set()
    managed.manager.stop()


def test_cancelling_ends_the_wait_for_room() -> None:
    all_of_it = ResourceAllocation.ram(10)
    asked = threading.Event()

    class Asked(FakeLoader):
        def estimate_resources(self) -> ResourceAllocation:
            asked.set()
            return all_of_it

    managed = Managed(limit=all_of_it, make_executor=WorkThreads)
    slow = Gate(all_of_it)
    managed.load(N1, slow.loader)
    assert slow.begun.wait(WAIT_SECONDS)
    managed.load(M1, Asked())
    assert asked.wait(WAIT_SECONDS)
    managed.manager.cancel_load(M1)
    managed.await_ended(1)
    assert managed.told(M1) == ["START", "END"]
    slow.go_on.set()
    managed.manager.stop()


@pytest.mark.parametrize("act", ["load", "unload"])
def test_one_that_hangs_holds_up_the_others_for_so_long_only(act: str) -> None:
    managed, begun, go_on = one_by_one(), threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        assert go_on.wait(WAIT_SECONDS)

    if act == "load":
        managed.load(M1, FakeLoader(before_load=hang))
        assert begun.wait(WAIT_SECONDS)
        managed.load(N1)
    else:
        managed.load_and_wait(N1, FakeLoader())
        managed.load_and_wait(M1, FakeLoader(before_unload=hang))
        managed.manager.unload(M1)
        assert begun.wait(WAIT_SECONDS)
        managed.manager.unload(N1)
    ended = managed.finished
    managed.clock.advance(SECONDS_UNTIL_OVERDUE)
    managed.await_ended(ended + 1)
    assert managed.told(N1)[-1] == ("AVAILABLE" if act == "load" else "END")
    go_on.set()
    managed.manager.stop()


class Refusing(InlineWork):
    """An executor that has no threads for what it is named after."""

    def __init__(self, name: str, refused: str) -> None:
        self._refuses = name == refused

    def submit(self, servable_id: ServableId, work: Work, delay_seconds: float = 0) -> None:
        if self._refuses:
            raise RuntimeError("can't start new thread")
        super().submit(servable_id, work, delay_seconds)


@pytest.mark.parametrize("act", ["load", "unload"])
def test_work_that_can_not_begin_ends_in_a_state_and_is_not_waited_for(act: str) -> None:
    managed = Managed(make_executor=lambda _number, name, _clock: Refusing(name, act))
    managed.load(M1, FakeLoader(resources=ResourceAllocation.ram(5)))
    if act == "unload":
        managed.manager.unload(M1)
    assert str(managed.events[-1]) == (
        "{name: m version: 1} END due to error: INTERNAL: "
        "beginning work on servable {name: m version: 1} failed: RuntimeError"
    )
    assert managed.manager.forgettable("m") == [M1]
    assert managed.tracker.used == ResourceAllocation()
    managed.manager.stop()


def test_once_stopped_nothing_is_taken_on_or_loaded() -> None:
    managed = Managed()
    managed.manager.manage(ServableData(M1, FakeLoader()))
    managed.manager.stop()
    for act in (
        lambda: managed.manager.load(M1),
        lambda: managed.manager.manage(ServableData(N1, FakeLoader())),
    ):
        with pytest.raises(Unavailable, match="the server is stopping"):
            act()


@pytest.mark.parametrize("forget", [False, True])
def test_stopping_leaves_to_others_what_they_have_begun_to_unload(forget: bool) -> None:
    managed = Managed()

    def unload_the_other() -> None:
        managed.manager.unload(N1)
        if forget:
            managed.manager.stop_managing(N1)

    managed.load(M1, FakeLoader(before_unload=unload_the_other))
    managed.load(N1)
    managed.manager.stop()
    assert (managed.told(M1)[-1], managed.told(N1)[-1]) == ("END", "END")


def test_nothing_can_be_done_with_a_version_before_its_start_is_told() -> None:
    managed = Managed()
    held: list[bool] = []
    managed.bus.subscribe(lambda event: held.append(event.id in managed.manager.states()))
    managed.manager.manage(ServableData(M1, FakeLoader()))
    assert held == [False]
    assert M1 in managed.manager.states()


def test_a_version_is_not_taken_on_again_before_its_end_is_told() -> None:
    managed = Managed()
    refusals: list[str] = []

    def take_on_again(event: ServableState) -> None:
        if event.state is ManagerState.END:
            with pytest.raises(FailedPrecondition) as raised:
                managed.manager.manage(ServableData(M1, FakeLoader()))
            refusals.append(raised.value.message)

    managed.manager.manage(ServableData(M1, FakeLoader()))
    managed.bus.subscribe(take_on_again)
    managed.manager.stop_managing(M1)
    assert len(refusals) == 1
    managed.manager.manage(ServableData(M1, FakeLoader()))
    assert managed.told(M1) == ["START", "END", "START"]
