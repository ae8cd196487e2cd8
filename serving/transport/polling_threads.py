"""The thread that polls for events and deals with them, and who takes over when it is held up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from serving.core.clock import Clock
from serving.core.periodic import PeriodicThread

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05


class Backlog(Protocol):
    """What events have left to be done once no more of them are there. Thread-safe."""

    def __bool__(self) -> bool:
        """Whether something is left."""

    def complete(self) -> bool:
        """Whether it is to be done now, without looking for more events; asked after each."""

    def steps_left(self) -> int:
        """How many steps do all of it, where no more is added."""

    def step(self) -> None:
        """Do a part of it; nothing, where another thread has just done the last."""


class PollingThreads:
    """One thread polls and deals with what comes: on few cores nothing is faster.

    Whatever is dealt with holds up what comes after it. So where one event, or one step of the
    backlog, still occupies the thread at the second look, another thread takes over, and the first
    one ends when nothing is left to be done. At most ``max_threads`` are alive.

    ``poll(wait)`` returns an event, or None where there is none and it is not to wait. The event's
    ``tag`` is called with it; one without a tag ends the threads.
    """

    def __init__(
        self, poll: Callable[[bool], Any], backlog: Backlog, max_threads: int, clock: Clock
    ) -> None:
        self._poll = poll
        self._backlog = backlog
        self._max_threads = max_threads
        self._pollers: list[_Poller] = []
        self._seen = -1
        self._watch = PeriodicThread("grpc-watch", self.look, _LOOK_SECONDS, clock)

    def start(self) -> None:
        self._take_over()
        self._watch.start()

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end; whether they have. Held up ones are left behind."""
        self._watch.stop()
        for poller in self._pollers:
            poller.thread.join(seconds)
        return not any(poller.thread.is_alive() for poller in self._pollers)

    def look(self) -> None:
        """Have another thread poll where the one that does was held up at the last look, too."""
        current = self._pollers[-1]
        if current.ended or not current.busy or current.events != self._seen:
            self._seen = current.events
            return
        self._pollers = [poller for poller in self._pollers if poller.thread.is_alive()]
        if len(self._pollers) < self._max_threads:
            current.replaced = True
            self._take_over()

    def _take_over(self) -> None:
        poller = _Poller(self._poll, self._backlog, f"grpc-poll-{len(self._pollers)}")
        self._pollers.append(poller)
        self._seen = -1
        poller.thread.start()


class _Poller:
    """One polling thread. Its fields are read by the thread that looks."""

    __slots__ = ("_backlog", "_poll", "busy", "ended", "events", "replaced", "thread")

    def __init__(self, poll: Callable[[bool], Any], backlog: Backlog, name: str) -> None:
        self._poll = poll
        self._backlog = backlog
        self.busy = False
        self.ended = False
        self.replaced = False
        self.events = 0
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        poll, backlog = self._poll, self._backlog
        while not (self.replaced or self.ended):
            try:
                event = poll(not backlog)
            except Exception:
                # Such as a message that is too large for the memory there is: its call is lost.
                log.exception("an event of gRPC could not be taken")
                continue
            if event is None:
                self._work_off()
            elif event.tag is None:
                self.ended = True
            else:
                self._deal(event.tag, event)
                # The event holds its call, and a call that is held keeps the server from stopping.
                event = None
                if backlog.complete():
                    self._work_off()
        # The thread that took over may have gone to wait before this one was done. What is added
        # from now on is left to it.
        for _ in range(backlog.steps_left()):
            self._deal(backlog.step)

    def _work_off(self) -> None:
        backlog = self._backlog
        while backlog:
            self._deal(backlog.step)

    def _deal(self, action: Callable[..., None], *arguments: Any) -> None:
        self.events += 1
        self.busy = True
        try:
            action(*arguments)
        except Exception:
            log.exception("an event of gRPC could not be dealt with")
        self.busy = False
