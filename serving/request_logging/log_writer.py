"""The thread that writes request logs, and the queue that keeps it from holding up calls."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from serving.core.clock import Clock
from serving.core.errors import Code, ServingError
from serving.core.periodic import PeriodicThread
from serving.request_logging.log_collectors import LogCollector

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
MOST_WAITING_BYTES = 64 << 20
_LOOK_SECONDS = 5.0


class LogEntry(NamedTuple):
    """A record on its way; ``record`` makes it, ``size_bytes`` about what it takes until then."""

    model_name: str
    collector: LogCollector
    record: Callable[[], bytes]
    size_bytes: int


class LogWriter:
    """Writes what is put into its queue, in that order, on a thread of its own. Thread-safe.

    The queue has room for 10,000 records and 64 MiB. What comes while it is full is dropped, and so
    is what can not be written. Every record is counted once, with the code of how it ended.
    """

    def __init__(self, clock: Clock, count: Callable[[str, Code], None]) -> None:
        """``count`` hears the model of each record and OK, RESOURCE_EXHAUSTED where there was no
        room for it, UNAVAILABLE where it could not be written, or INTERNAL.
        """
        self._count = count
        self._lock = threading.Lock()
        self._waiting: deque[LogEntry] = deque()
        self._waiting_bytes = 0
        self._is_started = self._is_stopping = False
        self._ended = threading.Event()
        self._clock = clock
        self._in_use: frozenset[LogCollector] = frozenset()
        self._collectors: set[LogCollector] = set()
        self._failing: set[LogCollector] = set()
        self._looked = clock.monotonic()
        self._thread = PeriodicThread("request_log", self.write_waiting, _LOOK_SECONDS, clock)

    def start(self) -> None:
        """Begin to write; no effect the second time."""
        with self._lock:
            if self._is_started or self._is_stopping:
                return
            self._is_started = True
        self._thread.start()

    def keep(self, collectors: frozenset[LogCollector]) -> None:
        """Keep only these open between rounds, from now on; to begin with there are none."""
        self._in_use = collectors
        self._thread.wake()

    def stop(self, within_seconds: float) -> None:
        """Take no more, write what waits and close the logs, if that takes no longer than that."""
        with self._lock:
            self._is_stopping = True
        if not self._is_started:
            return
        self._thread.wake()
        if self._clock.wait(self._ended, within_seconds):
            self._thread.stop()
            return
        with self._lock:
            lost = list(self._waiting)
            self._waiting.clear()
        log.error("the request log does not end in time: %d records are lost", len(lost))
        for entry in lost:
            self._count(entry.model_name, Code.UNAVAILABLE)

    def put(self, entry: LogEntry) -> None:
        """Have it written soon, or drop it; never waits for a disk."""
        with self._lock:
            taken = (
                not self._is_stopping
                and len(self._waiting) < MOST_WAITING
                and self._waiting_bytes + entry.size_bytes <= MOST_WAITING_BYTES
            )
            if taken:
                self._waiting.append(entry)
                self._waiting_bytes += entry.size_bytes
        if taken:
            self._thread.wake()
        else:
            self._count(entry.model_name, Code.RESOURCE_EXHAUSTED)

    def write_waiting(self) -> None:
        """One round: everything that waits."""
        while entry := self._next():
            self._count(entry.model_name, self._write(entry))
            # Where the queue is never empty, files have their time as well.
            if self._clock.monotonic() - self._looked >= _LOOK_SECONDS:
                self._look()
        self._look()
        self._close_unused()
        # What was put just before the stop may have come after the look above: another round does.
        if self._is_stopping and not self._waiting:
            for collector in self._collectors:
                collector.close()
            self._ended.set()

    def _look(self) -> None:
        """See to the files whose time is over."""
        self._looked = self._clock.monotonic()
        self._collectors = {collector for collector in self._collectors if collector.is_open()}

    def _close_unused(self) -> None:
        in_use = self._in_use
        for collector in self._collectors.difference(in_use):
            collector.close()
        self._collectors.intersection_update(in_use)
        self._failing.intersection_update(in_use)

    def _next(self) -> LogEntry | None:
        with self._lock:
            if not self._waiting:
                return None
            entry = self._waiting.popleft()
            self._waiting_bytes -= entry.size_bytes
            return entry

    def _write(self, entry: LogEntry) -> Code:
        collector = entry.collector
        self._collectors.add(collector)
        try:
            collector.collect(entry.record())
        except OSError as error:
            if collector not in self._failing:
                self._failing.add(collector)
                log.error(
                    "records of model %s are dropped until they can be written again: %s",
                    entry.model_name,
                    error,
                )
            return Code.UNAVAILABLE
        except ServingError as error:
            return error.code
        except Exception:
            log.exception("a record of model %s could not be made", entry.model_name)
            return Code.INTERNAL
        self._failing.discard(collector)
        return Code.OK
