"""A file that lines are appended to while others rotate it."""

import errno
import os

import pytest

from serving.observability.appended_file import AppendedFile


@pytest.fixture
def file(tmp_path):
    file = AppendedFile(str(tmp_path / "a.log"))
    file.open()
    yield file
    file.close()


def test_a_file_that_was_moved_away_is_made_anew(file, tmp_path):
    file.write(b"one\n")
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    file.write(b"two\n")

    assert (tmp_path / "a.log.1").read_bytes() == b"one\n"
    assert (tmp_path / "a.log").read_bytes() == b"two\n"


def test_a_file_that_was_cut_off_goes_on_at_its_beginning(file, tmp_path):
    file.write(b"one\n")
    os.truncate(tmp_path / "a.log", 0)
    file.write(b"two\n")

    assert (tmp_path / "a.log").read_bytes() == b"two\n"


def test_two_that_write_to_one_file_lose_nothing(file, tmp_path):
    other = AppendedFile(str(tmp_path / "a.log"))
    other.open()
    for writer in (file, other, file):
        writer.write(b"line\n")
    other.close()

    assert (tmp_path / "a.log").read_bytes() == b"line\n" * 3


def test_a_file_that_can_not_be_made_again_is_tried_again(file, tmp_path):
    (tmp_path / "a.log").unlink()
    (tmp_path / "a.log").mkdir()
    with pytest.raises(IsADirectoryError):
        file.write(b"one\n")
    (tmp_path / "a.log").rmdir()
    file.write(b"two\n")

    assert (tmp_path / "a.log").read_bytes() == b"two\n"


def test_a_line_that_a_full_disk_cut_off_is_ended_and_lines_that_are_lost_are_counted(
    file, tmp_path, monkeypatch
):
    """As on a disk that fills up: some bytes go, then none do, until there is room again."""
    room, write = [6], os.write

    def small(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("serving.observability.appended_file.os.write", small)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"one\ntwo\nthree\nfour\n")
    assert file.lost == 2
    with pytest.raises(OSError, match="No space left"):
        file.write(b"five\n")
    assert file.lost == 3
    room[0] = 2
    with pytest.raises(OSError, match="No space left"):
        file.write(b"six\n")
    assert file.lost == 4
    room[0] = 100
    file.write(b"seven\n")

    assert (tmp_path / "a.log").read_bytes() == b"one\ntwo\nseven\n"


def test_the_rest_of_a_line_does_not_go_into_another_file(file, tmp_path):
    file.write(b"one\n")
    file._rest = b"rest\n"
    (tmp_path / "a.log").unlink()
    file.write(b"two\n")

    assert (tmp_path / "a.log").read_bytes() == b"two\n"
    assert file.lost == 1
