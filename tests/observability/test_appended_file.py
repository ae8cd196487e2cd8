"""A file that lines are appended to while others rotate it."""

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
