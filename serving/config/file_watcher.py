"""Applies what a file says when that is new, and only once it stands still."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.core.periodic import PeriodicThread

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 1.0
"""How long a changed file must say the same: half of a YAML list is a shorter list."""

T = TypeVar("T")


class FileWatcher(Generic[T]):
    """Reads a file again and again, and applies what it says where that is not in force.

    What can not be read or is refused is logged, once for each reason, and changes nothing; the
    next good file is applied. One that was refused is tried again at every look, as a label may
    have waited for its version to load. Looks happen on a thread of its own.
    """

    def __init__(
        self,
        what: str,
        read: Callable[[], T],
        apply: Callable[[T], None],
        *,
        in_force: Callable[[], T],
        interval_seconds: float,
        clock: Clock,
    ) -> None:
        """``what`` the file is, for the log. ``read`` and ``apply`` raise ServingError;
        ``in_force`` tells what counts now.
        """
        self._what = what
        self._read = read
        self._apply = apply
        self._in_force = in_force
        self._clock = clock
        self._stopping = threading.Event()
        self._problem = ""
        self._thread = PeriodicThread("config", self.look, interval_seconds, clock)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns once a look in progress has ended."""
        self._stopping.set()
        self._thread.stop()

    def look(self) -> None:
        """One look, which takes as long as the file keeps changing."""
        try:
            said = self._settled()
            if self._is_new(said):
                self._apply(said)
            self._problem = ""
        except ServingError as error:
            if str(error) != self._problem:
                log.error("the %s was not applied: %s", self._what, error)
            self._problem = str(error)

    def _settled(self) -> T:
        said = self._read()
        while self._is_new(said):
            self._clock.wait(self._stopping, _SETTLE_SECONDS)
            before, said = said, self._read()
            if said == before:
                break
        return said

    def _is_new(self, said: T) -> bool:
        return said != self._in_force() and not self._stopping.is_set()
