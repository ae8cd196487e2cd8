"""Workers that are there but do not answer: noticed and killed, so that others take their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from serving.core.clock import Clock
from serving.core.periodic import PeriodicThread
from serving.workers.channel import Channel
from serving.workers.messages import Ping

LOOKS = 5
"""How often a worker is looked at before it counts as hung. Looks are counted, not seconds: while
this process itself does not run, or the whole machine, nobody could have answered it.
"""


class WatchedWorker:
    """One life of a worker, asked again and again whether it is there."""

    def __init__(
        self, channel: Channel, is_serving: Callable[[], bool], kill: Callable[[], None]
    ) -> None:
        self.is_hung = False
        self._channel = channel
        self._is_serving = is_serving
        self._kill = kill
        self._question: Future[object] | None = None
        self._silent_looks = 0

    def look(self) -> None:
        """Ask, or count one more look at which it has not answered yet; the last one kills it.

        While it starts or drains it may be busy for as long as that takes.
        """
        if not self._is_serving():
            self._question = None
        elif self._question is None or self._question.done():
            self._question = self._channel.ask(Ping())
            self._silent_looks = 0
        else:
            self._silent_looks += 1
            if self._silent_looks == LOOKS:
                self.is_hung = True
                self._kill()


class HangWatch:
    """Looks at all workers, from one thread, unless ``hang_seconds`` is 0. Thread-safe."""

    def __init__(self, hang_seconds: float, clock: Clock) -> None:
        self._workers: list[WatchedWorker] = []
        self._thread: PeriodicThread | None = None
        if hang_seconds > 0:
            self._thread = PeriodicThread("hang-watch", self.look, hang_seconds / LOOKS, clock)

    def start(self) -> None:
        if self._thread:
            self._thread.start()

    def stop(self) -> None:
        if self._thread:
            self._thread.stop()

    @contextmanager
    def watching(
        self, channel: Channel, is_serving: Callable[[], bool], kill: Callable[[], None]
    ) -> Iterator[WatchedWorker]:
        """Within the block the worker is looked at; ``kill`` must do nothing once it has ended."""
        worker = WatchedWorker(channel, is_serving, kill)
        self._workers.append(worker)
        try:
            yield worker
        finally:
            self._workers.remove(worker)

    def look(self) -> None:
        """One look at each worker."""
        for worker in list(self._workers):
            worker.look()
