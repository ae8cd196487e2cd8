"""Files of a request log: when one ends, what is deleted, what a failure leaves."""

from __future__ import annotations

import errno
import os
from io import FileIO
from pathlib import Path

import pytest

from serving.core.errors import FailedPrecondition
from serving.request_logging.request_log_options import RequestLogOptions
from serving.request_logging.rotating_files import RotatingFiles, check_writable
from serving.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def contents(folder: Path) -> list[bytes]:
    """Of all files, in the order they were begun in."""
    return [path.read_bytes() for path in in_order(folder)]


def in_order(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: int(path.stem.rpartition("-")[2]))


def files(folder: Path, clock: FakeClock, suffix: str = ".log", **options: int) -> RotatingFiles:
    return RotatingFiles(str(folder / "m"), suffix, RequestLogOptions(**options), clock)


def test_a_file_says_when_where_and_by_which_process_it_was_begun(tmp_path: Path, clock):
    made = files(tmp_path, clock)
    assert list(tmp_path.iterdir()) == []
    made.write(b"x")
    made.close()
    (path,) = tmp_path.iterdir()
    assert path.match(f"m-????????T??????Z-{os.uname().nodename}-{os.getpid()}-*.log")


def test_another_file_begins_before_one_becomes_too_large(tmp_path: Path, clock):
    made = files(tmp_path, clock, max_file_bytes=4)
    for data in (b"ab", b"cd", b"e", b"much more", b"f"):
        made.write(data)
    made.close()
    assert contents(tmp_path) == [b"abcd", b"e", b"much more", b"f"]


def test_a_file_ends_when_it_is_old_and_what_follows_begins_another(tmp_path: Path, clock):
    made = files(tmp_path, clock, max_file_seconds=60)
    made.write(b"a")
    clock.advance(59)
    made.close_if_over()
    assert made.is_open
    made.write(b"b")
    clock.advance(1)
    made.close_if_over()
    assert not made.is_open
    made.write(b"c")
    made.close()
    assert contents(tmp_path) == [b"ab", b"c"]


def test_a_file_that_was_deleted_is_left_so_that_its_room_comes_back(tmp_path: Path, clock):
    made = files(tmp_path, clock)
    made.write(b"a")
    in_order(tmp_path)[0].unlink()
    made.close_if_over()
    assert not made.is_open
    made.write(b"b")
    made.close()
    assert contents(tmp_path) == [b"b"]


def test_a_busy_log_looks_at_its_file_before_each_record(tmp_path: Path, clock):
    made = files(tmp_path, clock, max_file_seconds=60)
    made.write(b"a")
    in_order(tmp_path)[0].unlink()
    made.write(b"b")
    clock.advance(60)
    made.write(b"c")
    made.close()
    assert contents(tmp_path) == [b"b", b"c"]


def test_the_oldest_files_make_room_and_files_of_others_stay(tmp_path: Path, clock):
    others = [tmp_path / "m-eu-20250101T000000Z-h-1-0.log", tmp_path / "m.log"]
    for number, other in enumerate(others):
        other.write_bytes(bytes(100))
        os.utime(other, (number, number))
    made = files(tmp_path, clock, max_file_bytes=2, max_total_bytes=6)
    before = tmp_path / "m-20250101T000000Z-another-1-0.log"  # of a process that has ended
    before.write_bytes(b"zz")
    os.utime(before, (10, 10))
    for number in range(4):
        made.write(b"%d%d" % (number, number))
        (newest,) = (path for path in tmp_path.iterdir() if path.stat().st_mtime > 1e6)
        made.close()
        os.utime(newest, (20 + number, 20 + number))
    for other in others:
        assert other.read_bytes() == bytes(100)
        other.unlink()
    assert contents(tmp_path) == [b"11", b"22", b"33"]


def test_without_a_limit_nothing_is_deleted(tmp_path: Path, clock):
    made = files(tmp_path, clock, max_file_bytes=1, max_total_bytes=0)
    for _ in range(10):
        made.write(b"x")
    made.close()
    assert len(contents(tmp_path)) == 10


def test_a_write_that_fails_leaves_no_half_of_a_record(tmp_path: Path, clock, monkeypatch):
    """As on a disk that fills up: some bytes go, then none do, until there is room again."""
    room = [3]

    class SmallDisk(FileIO):
        def write(self, data):
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(bytes(data[: room[0]]))
            room[0] -= written
            return written

    monkeypatch.setattr("serving.request_logging.rotating_files.FileIO", SmallDisk)
    made = files(tmp_path, clock)
    made.write(b"ab")
    with pytest.raises(OSError, match="No space left"):
        made.write(b"cd")
    assert contents(tmp_path) == [b"ab"]
    room[0] = 10
    made.write(b"ef")
    made.close()
    assert contents(tmp_path) == [b"abef"]


def test_nothing_follows_half_a_record_that_can_not_be_undone(tmp_path: Path, clock, monkeypatch):
    class BrokenDisk(FileIO):
        def write(self, data):
            if bytes(data) != b"cd":
                return super().write(data)
            super().write(b"c")
            raise OSError(errno.EIO, "Input/output error")

        def truncate(self, size=None):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("serving.request_logging.rotating_files.FileIO", BrokenDisk)
    made = files(tmp_path, clock)
    made.write(b"ab")
    with pytest.raises(OSError, match="Input/output error"):
        made.write(b"cd")
    made.write(b"ef")
    made.close()
    assert contents(tmp_path) == [b"abc", b"ef"]


def test_a_directory_that_is_missing_is_made(tmp_path: Path):
    check_writable(str(tmp_path / "a" / "b" / "m"))
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_that_can_not_be_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition, match=r"file/a can not be written to: Not a directory"):
        check_writable(str(tmp_path / "file" / "a" / "m"))
