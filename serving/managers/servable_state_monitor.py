"""Remembers the last state of every version, and lets others wait for one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from serving.core.clock import Clock
from serving.core.event_bus import EventBus
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState


class _Heard(NamedTuple):
    """The last event of a version, and how many events had been heard by then."""

    at: int
    state: ServableState


class ServableStateMonitor:
    """Listens on the event bus from construction on. Thread-safe.

    Versions are remembered after their END, so that a failure can still be asked about.
    """

    def __init__(self, bus: EventBus[ServableState], clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._now = 0
        self._states: dict[str, dict[int, _Heard]] = {}
        self._waiting: set[threading.Event] = set()
        self._subscription = bus.subscribe(self._hear)

    def close(self) -> None:
        """Stop listening."""
        self._subscription.cancel()

    def now(self) -> int:
        """A point in the stream of events, to say ``since`` when later."""
        return self._now

    def state(self, servable_id: ServableId) -> ServableState | None:
        """The last state of one version; None when it was never heard of."""
        with self._lock:
            heard = self._states.get(servable_id.name, {}).get(servable_id.version)
        return heard.state if heard else None

    def versions(self, name: str) -> Sequence[ServableState]:
        """The last state of every version of ``name`` ever heard of, highest version first."""
        with self._lock:
            heard = sorted(self._states.get(name, {}).items(), reverse=True)
        return [last.state for _, last in heard]

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

    def is_settled(self, name: str, since: int = 0) -> bool:
        """Whether a version is available, or every version heard of ``since`` then has failed."""
        if self.is_available(name):
            return True
        with self._lock:
            recent = [heard for heard in self._states.get(name, {}).values() if heard.at > since]
        return bool(recent) and all(heard.state.error for heard in recent)

    def is_available(self, name: str) -> bool:
        """Whether any version can be looked up."""
        return any(state.state is ManagerState.AVAILABLE for state in self.versions(name))

    def _hear(self, state: ServableState) -> None:
        with self._lock:
            self._now += 1
            self._states.setdefault(state.id.name, {})[state.id.version] = _Heard(self._now, state)
            for waiting in self._waiting:
                waiting.set()
