"""The queue of the request log: what is written, what is dropped, what is counted."""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from serving.core.clock import Clock, SystemClock
from serving.core.errors import Code
from serving.request_logging import log_writer
from serving.request_logging.log_writer import LogEntry, LogWriter
from serving.testing import FakeClock


class Collector:
    """Keeps records in memory; raises the failures given, one for each record."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.failures: list[Exception] = []
        self.closed = 0
        self.open = True
        self.looks = 0

    def collect(self, record: bytes) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.records.append(record)

    def is_open(self) -> bool:
        self.looks += 1
        return self.open

    def close(self) -> None:
        self.closed += 1


class Written:
    """A writer whose rounds are called, and what it counts."""

    def __init__(self, clock: Clock) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.collector = Collector()
        self.writer = LogWriter(clock, self._count)
        self.writer.keep(frozenset([self.collector]))

    def _count(self, model_name: str, code: Code) -> None:
        self.counts[model_name, code.name] += 1

    def put(self, record: bytes | Callable[[], bytes], size_bytes: int = 1) -> None:
        make = record if callable(record) else lambda: record
        self.writer.put(LogEntry("m", self.collector, make, size_bytes))


@pytest.fixture
def written() -> Written:
    return Written(SystemClock())


def test_records_are_made_and_written_in_their_order_by_the_round_that_follows(written: Written):
    made: list[bytes] = []

    def make() -> bytes:
        made.append(b"b")
        return b"b"

    written.put(b"a")
    written.put(make)
    assert (made, written.collector.records) == ([], [])
    written.writer.write_waiting()
    assert written.collector.records == [b"a", b"b"]
    assert written.counts == {("m", "OK"): 2}


def test_what_does_not_fit_is_dropped_and_counted_and_room_comes_back(
    written: Written, monkeypatch
):
    monkeypatch.setattr(log_writer, "MOST_WAITING", 2)
    for record in (b"a", b"b", b"c"):
        written.put(record)
    assert written.counts == {("m", "RESOURCE_EXHAUSTED"): 1}
    written.writer.write_waiting()
    written.put(b"d")
    written.writer.write_waiting()
    assert written.collector.records == [b"a", b"b", b"d"]


def test_large_records_fill_the_queue_by_their_bytes(written: Written, monkeypatch):
    monkeypatch.setattr(log_writer, "MOST_WAITING_BYTES", 10)
    written.put(b"a", 6)
    written.put(b"b", 5)
    written.put(b"c", 4)
    written.writer.write_waiting()
    written.put(b"d", 10)
    written.writer.write_waiting()
    assert written.collector.records == [b"a", b"c", b"d"]


def test_a_full_disk_drops_records_says_so_once_and_later_records_are_written(
    written: Written, caplog
):
    full = OSError(errno.ENOSPC, "No space left on device")
    written.collector.failures = [full, full]
    for record in (b"a", b"b", b"c"):
        written.put(record)
    written.writer.write_waiting()
    assert written.collector.records == [b"c"]
    assert written.counts == {("m", "UNAVAILABLE"): 2, ("m", "OK"): 1}
    assert caplog.text.count("No space left on device") == 1
    written.collector.failures = [full]
    written.put(b"d")
    written.writer.write_waiting()
    assert caplog.text.count("No space left on device") == 2


def test_a_record_that_can_not_be_made_does_not_keep_others_back(written: Written, caplog):
    def fail() -> bytes:
        raise ValueError("a defect")

    written.put(fail)
    written.put(b"b")
    written.writer.write_waiting()
    assert written.collector.records == [b"b"]
    assert written.counts == {("m", "INTERNAL"): 1, ("m", "OK"): 1}
    assert "a record of model m could not be made" in caplog.text


def test_a_stop_writes_what_waits_closes_the_logs_and_takes_no_more(written: Written):
    written.put(b"a")
    written.writer.start()
    written.writer.start()
    written.writer.stop(60)
    written.put(b"b")
    assert written.collector.records == [b"a"]
    assert written.collector.closed == 1
    assert written.counts == {("m", "OK"): 1, ("m", "RESOURCE_EXHAUSTED"): 1}


def test_a_stop_does_not_wait_for_a_disk_that_hangs(written: Written, caplog):
    reached, go_on = threading.Event(), threading.Event()

    def hang() -> bytes:
        reached.set()
        go_on.wait(60)
        return b"a"

    written.put(hang)
    written.put(b"b")
    written.writer.start()
    assert reached.wait(60)
    written.writer.stop(0.01)
    assert "1 records are lost" in caplog.text
    assert written.counts == {("m", "UNAVAILABLE"): 1}
    go_on.set()


def test_a_writer_that_never_began_stops_at_once(written: Written):
    written.writer.stop(60)
    written.writer.start()
    assert written.collector.closed == 0


def test_logs_that_are_not_open_any_more_are_forgotten(written: Written):
    written.put(b"a")
    written.writer.write_waiting()
    written.collector.open = False
    written.writer.write_waiting()
    written.writer.start()
    written.writer.stop(60)
    assert written.collector.closed == 0


def test_files_have_their_time_also_where_the_queue_is_never_empty():
    clock = FakeClock()
    written = Written(clock)
    looks: list[int] = []

    def make() -> bytes:
        looks.append(written.collector.looks)
        clock.advance(2)
        return b"a"

    for _ in range(7):
        written.put(make)
    written.writer.write_waiting()
    assert looks == [0, 0, 0, 1, 1, 1, 2]


def test_a_log_that_is_not_in_use_any_more_is_closed_when_what_waits_for_it_is_written(
    written: Written, caplog
):
    full = OSError(errno.ENOSPC, "No space left on device")
    written.collector.failures = [full, full]
    written.put(b"a")
    written.writer.write_waiting()
    assert written.collector.closed == 0
    written.put(b"b")
    written.put(b"c")
    written.writer.keep(frozenset())
    written.writer.write_waiting()
    assert (written.collector.records, written.collector.closed) == ([b"c"], 1)
    written.put(b"d")  # of a call that was in progress
    written.writer.write_waiting()
    assert written.collector.closed == 2
    written.collector.failures = [full, full]
    for _ in range(2):
        written.put(b"e")
        written.writer.write_waiting()
    assert caplog.text.count("No space left on device") == 3, "no failure is remembered"
