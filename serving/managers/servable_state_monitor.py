"""Remembers the last state of every version, and lets others wait for one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from serving.core.clock import Clock
from serving.core.event_bus import EventBus
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState


class LoggedState(NamedTuple):
    """An event and when it was heard, in seconds since the epoch."""

    time: float
    state: ServableState


@dataclass(frozen=True, slots=True)
class Reached:
    """How waiting for a state ended: did all get there, and where each one stands."""

    all_reached: bool
    states: Mapping[ServableRequest, ManagerState]


Notify = Callable[[Reached], None]


class _Heard(NamedTuple):
    """The last event of a version, and how many events had been heard by then."""

    at: int
    state: ServableState


class ServableStateMonitor:
    """Listens on the event bus from construction on. Thread-safe.

    Versions are remembered after their END, so that a failure can still be asked about: the last
    ``max_ended`` of each servable. ``max_logged`` bounds the log of events.
    """

    def __init__(
        self,
        bus: EventBus[ServableState],
        clock: Clock,
        *,
        max_ended: int = 100,
        max_logged: int = 0,
    ) -> None:
        self._clock = clock
        self._max_ended = max_ended
        self._lock = threading.Lock()
        self._now = 0
        self._states: dict[str, dict[int, _Heard]] = {}
        self._log: deque[LoggedState] = deque(maxlen=max_logged)
        self._waiting: set[threading.Event] = set()
        self._notifications: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._subscription = bus.subscribe(self._hear)

    def close(self) -> None:
        """Stop listening."""
        self._subscription.cancel()

    def now(self) -> int:
        """A point in the stream of events, to say ``since`` when later."""
        return self._now

    def log(self) -> Sequence[LoggedState]:
        """The latest events, oldest first; as many as the log may hold."""
        with self._lock:
            return list(self._log)

    def state(self, servable_id: ServableId) -> ServableState | None:
        """The last state of one version; None when it was never heard of, or is forgotten."""
        with self._lock:
            heard = self._states.get(servable_id.name, {}).get(servable_id.version)
        return heard.state if heard else None

    def versions(self, name: str) -> Sequence[ServableState]:
        """The last state of every version of ``name`` remembered, highest version first."""
        with self._lock:
            heard = sorted(self._states.get(name, {}).items(), reverse=True)
        return [last.state for _, last in heard]

    def live(self) -> Mapping[str, Sequence[ServableState]]:
        """The versions that have not ended, by name."""
        with self._lock:
            names = list(self._states)
        living = {
            name: [state for state in self.versions(name) if state.state is not ManagerState.END]
            for name in names
        }
        return {name: states for name, states in living.items() if states}

    def forget_ended(self) -> None:
        """Forget every version that has ended."""
        with self._lock:
            for name in list(self._states):
                self._forget_ended(name, 0)

    def wait_until(self, condition: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """Wait until ``condition`` holds; it is asked now and after every event.

        Returns False when the time is over first; None waits without end.
        """
        deadline = None if timeout_seconds is None else self._clock.monotonic() + timeout_seconds
        changed = threading.Event()
        with self._lock:
            self._waiting.add(changed)
        try:
            while not condition():
                left = None if deadline is None else deadline - self._clock.monotonic()
                if left is not None and left <= 0:
                    return False
                self._clock.wait(changed, left)
                changed.clear()
            return True
        finally:
            with self._lock:
                self._waiting.discard(changed)

    def wait_until_reached(
        self,
        requests: Sequence[ServableRequest],
        goal: ManagerState,
        timeout_seconds: float | None = None,
    ) -> Reached:
        """Wait until each of these has reached ``goal``, or has ended instead.

        A request without a version is fulfilled by any version of its name. After a time-out those
        still on their way are reported where they stand, and START where nothing is known.
        """
        self.wait_until(lambda: self._reached(requests, goal) is not None, timeout_seconds)
        return self._reached(requests, goal) or Reached(
            False, {request: self._nearest(request, goal) for request in requests}
        )

    def notify_when_reached(
        self, requests: Sequence[ServableRequest], goal: ManagerState, notify: Notify
    ) -> None:
        """Call back once when each of these has reached ``goal`` or ended; perhaps right now.

        The call comes on the thread of the event that decided it, and must be quick.
        """

        def reached() -> bool:
            return self._reached(requests, goal) is not None

        def tell() -> None:
            if outcome := self._reached(requests, goal):
                notify(outcome)

        self.when(reached, tell)

    def when(self, condition: Callable[[], bool], notify: Callable[[], None]) -> None:
        """Call back once, as soon as ``condition`` holds; perhaps right now.

        It is asked now, after every event and at every :meth:`look_again`, on the threads that
        these come on; both functions must be quick and stand being called from several.
        """
        with self._lock:
            self._notifications.append((condition, notify))
        self._notify()

    def look_again(self) -> None:
        """Something changed that is no event, but that a condition may depend on."""
        with self._lock:
            for waiting in self._waiting:
                waiting.set()
        self._notify()

    def failures(self, name: str, since: int = 0) -> Sequence[ServableState]:
        """The versions heard of ``since`` then that have failed, highest first."""
        with self._lock:
            heard = sorted(self._states.get(name, {}).items(), reverse=True)
        return [last.state for _, last in heard if last.state.error and last.at > since]

    def has_failed(self, name: str, since: int = 0) -> bool:
        """Whether every version heard of ``since`` then has failed, and there is one."""
        with self._lock:
            recent = [heard for heard in self._states.get(name, {}).values() if heard.at > since]
        return bool(recent) and all(heard.state.error for heard in recent)

    def is_available(self, name: str, since: int = 0) -> bool:
        """Whether a version that became available ``since`` then can be looked up."""
        with self._lock:
            recent = [heard for heard in self._states.get(name, {}).values() if heard.at > since]
        return any(heard.state.state is ManagerState.AVAILABLE for heard in recent)

    def _hear(self, state: ServableState) -> None:
        with self._lock:
            self._now += 1
            self._states.setdefault(state.id.name, {})[state.id.version] = _Heard(self._now, state)
            self._log.append(LoggedState(self._clock.time(), state))
            if state.state is ManagerState.END:
                self._forget_ended(state.id.name, self._max_ended)
            for waiting in self._waiting:
                waiting.set()
        self._notify()

    def _forget_ended(self, name: str, keep: int) -> None:
        versions = self._states[name]
        ended = sorted(
            (heard.at, version)
            for version, heard in versions.items()
            if heard.state.state is ManagerState.END
        )
        for _, version in ended[: max(0, len(ended) - keep)]:
            del versions[version]
        if not versions:
            del self._states[name]

    def _notify(self) -> None:
        with self._lock:
            pending = list(self._notifications)
        for notification in pending:
            condition, notify = notification
            if not condition():
                continue
            with self._lock:
                mine = notification in self._notifications
                if mine:
                    self._notifications.remove(notification)
            if mine:
                notify()

    def _reached(self, requests: Sequence[ServableRequest], goal: ManagerState) -> Reached | None:
        """None while any of them is still on its way."""
        states = {request: self._nearest(request, goal) for request in requests}
        if any(state not in (goal, ManagerState.END) for state in states.values()):
            return None
        return Reached(all(state is goal for state in states.values()), states)

    def _nearest(self, request: ServableRequest, goal: ManagerState) -> ManagerState:
        """The goal where any version that fits is there, else how far the furthest has come."""
        states = [
            state.state
            for state in self.versions(request.name)
            if request.version in (None, state.id.version)
        ]
        return goal if goal in states else max(states, default=ManagerState.START)
