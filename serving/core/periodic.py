"""A thread that calls one method again and again, and stops when told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from serving.core.clock import Clock

log = logging.getLogger(__name__)


class PeriodicThread:
    """Calls ``body`` every ``interval_seconds``, or sooner when woken, until stopped.

    An interval of None means only when woken.

    An exception in ``body`` is logged and the next round comes as usual: a loop that keeps models
    alive must not end because one round failed. Daemonic, so a hung body cannot keep a process
    that was told twice to end.
    """

    def __init__(
        self, name: str, body: Callable[[], None], interval_seconds: float | None, clock: Clock
    ) -> None:
        self._body = body
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Have the next round begin at once."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the round in progress; returns when the thread has ended. Idempotent."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._body()
            except Exception:
                log.exception("a round of %s failed; the next one comes", self._thread.name)
            if not self._stopping:
                self._clock.wait(self._wake, self._interval_seconds)
