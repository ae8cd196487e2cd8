"""Models that a start or a reload waits for, and for how long it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from serving.core.clock import Clock
from serving.core.errors import DeadlineExceeded, ServingError, Unavailable
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.servable_state_monitor import ServableStateMonitor

_SECONDS_OF_PATIENCE: Mapping[type[ServingError], float] = {
    DeadlineExceeded: 10.0,
    Unavailable: 30.0,
}
"""How long a base path that does not answer, and a version that is still being copied, may keep
a start or a reload waiting; for other problems nobody waits. In ascending order.
"""


class AwaitedModels:
    """Models that somebody waits for, until each is served, failed, lost or dropped.

    Lost is a model without a version to wait for, also one whose store is away. One whose only
    version is still being copied, or whose base path does not answer, is waited for with patience.
    Thread-safe.
    """

    def __init__(
        self,
        names: Sequence[str],
        since: int,
        *,
        monitor: ServableStateMonitor,
        is_served: Callable[[str], bool],
        problems: Callable[[], Mapping[str, ServingError]],
        is_configured: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        """``since``: the point in the monitor's stream after which a failure counts.

        ``is_served`` tells whether requests for a model reach a version that stays, though it may
        have to load first. It is asked after every event, and must be quick.
        """
        self._names = names
        self._since = since
        self._monitor = monitor
        self._is_served = is_served
        self._problems = problems
        self._is_configured = is_configured
        self._clock = clock
        self._began = clock.monotonic()
        self._lock = threading.Lock()
        self._waiting = list(names)

    def when_ended(self, notify: Callable[[], None]) -> None:
        """Call back once, as soon as none is waited for any more; perhaps right now.

        The call comes on the thread of the event that ended it, or of the patience that did.
        """
        ended = threading.Event()

        def end() -> None:
            ended.set()
            notify()

        self._monitor.when(self.has_ended, end)
        if not ended.is_set():
            threading.Thread(
                target=self._lose_patience, args=(ended,), name="patience", daemon=True
            ).start()

    def has_ended(self) -> bool:
        """Asked after every event, so what has ended once is not looked at again."""
        with self._lock:
            while self._waiting and self._is_settled(self._waiting[-1]):
                self._waiting.pop()
            return not self._waiting

    def failures(self) -> Sequence[ServableState]:
        """The versions that failed, of models of which none is served."""
        unserved = [name for name in self._names if not self._is_reached(name)]
        return [state for name in unserved for state in self._monitor.failures(name, self._since)]

    def lost(self) -> Mapping[str, ServingError]:
        """The models without a version to wait for, each with the reason."""
        reasons = {name: self._why_lost(name) for name in self._names}
        return {name: reason for name, reason in reasons.items() if reason}

    def _is_settled(self, name: str) -> bool:
        if self._is_reached(name) or not self._is_configured(name):
            return True
        failed = self._monitor.has_failed(name, self._since)
        return failed or self._why_lost(name) is not None

    def _is_reached(self, name: str) -> bool:
        """What became available meanwhile counts, even if another version is wanted by now."""
        return self._is_served(name) or self._monitor.is_available(name, self._since)

    def _why_lost(self, name: str) -> ServingError | None:
        problem = self._problems().get(name)
        patience = _SECONDS_OF_PATIENCE.get(type(problem), 0.0) if problem else 0.0
        if self._clock.monotonic() < self._began + patience:
            return None
        gone = all(state.state is ManagerState.END for state in self._monitor.versions(name))
        return problem if gone else None

    def _lose_patience(self, ended: threading.Event) -> None:
        """Where nothing happens, nobody would ask again."""
        for patience in _SECONDS_OF_PATIENCE.values():
            while (left := self._began + patience - self._clock.monotonic()) > 0:
                if self._clock.wait(ended, left):
                    return
            self._monitor.look_again()
