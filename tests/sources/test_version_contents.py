"""A version is taken when its files stand still, or when it holds its marker."""

import os
from pathlib import Path

import pytest

from serving.sources.version_contents import UNREADABLE, VersionContents, contents_of
from serving.testing import FakeClock

NOW = 2_000_000_000.0
"""The fake clock's time, in seconds since the epoch; files made by a test are older than that."""


def aged(path: Path, seconds: float) -> Path:
    """Give everything below the path a modification time so many seconds before NOW."""
    for each in [path, *path.rglob("*")]:
        os.utime(each, (NOW - seconds, NOW - seconds))
    return path


@pytest.fixture
def version(tmp_path: Path) -> Path:
    path = tmp_path / "1"
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"12345")
    (path / "variables" / "data").write_bytes(b"123")
    return path


def test_contents_count_files_bytes_and_the_newest_change(version: Path) -> None:
    aged(version, 100)
    before = contents_of(str(version))
    os.utime(version / "variables" / "data", (NOW - 7, NOW - 7))
    after = contents_of(str(version))
    assert (before.num_files, after.newest_seconds) == (3, NOW - 7)
    assert before.newest_seconds == NOW - 100
    (version / "variables" / "data").write_bytes(b"1234")
    assert contents_of(str(version)).size_bytes == before.size_bytes + 1


def test_links_in_circles_are_looked_at_once(version: Path) -> None:
    (version / "loop").symlink_to(version)
    (version / "dangling").symlink_to("/nowhere")
    assert contents_of(str(version)).num_files == 4


def test_a_version_may_be_a_link_or_a_file(version: Path, tmp_path: Path) -> None:
    link = tmp_path / "2"
    link.symlink_to(version)
    assert contents_of(str(link)).num_files == 3
    assert contents_of(str(version / "saved_model.pb")).size_bytes == 5


def test_what_is_not_there_is_unreadable_and_counts_as_complete(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert contents_of(missing) == UNREADABLE
    assert VersionContents(FakeClock(NOW)).is_complete(missing)


def test_what_changes_while_it_is_looked_at_must_stand_still_first(version: Path) -> None:
    """A copy that renames a file under our eyes can not be counted, and is not whole either."""
    clock = FakeClock(NOW)
    contents = VersionContents(clock, settle_seconds=5)
    path = str(aged(version, -100))
    away = version.rename(version.with_name("away"))
    assert not contents.is_complete(path)
    away.rename(version)
    clock.advance(4)
    assert not contents.is_complete(path)
    clock.advance(5)
    assert contents.is_complete(path)


def test_what_stays_unreadable_for_long_is_complete(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    contents = VersionContents(clock, settle_seconds=5)
    (tmp_path / "1").symlink_to("1")
    assert not contents.is_complete(str(tmp_path / "1"))
    clock.advance(5)
    assert contents.is_complete(str(tmp_path / "1"))


def test_where_the_marker_can_not_be_looked_for_the_load_says_what_is_wrong(
    tmp_path: Path,
) -> None:
    (tmp_path / "1").symlink_to("1")
    contents = VersionContents(FakeClock(NOW), marker="_DONE")
    assert contents.is_complete(str(tmp_path / "1"))


def test_files_that_have_been_still_for_long_are_taken_at_the_first_look(version: Path) -> None:
    contents = VersionContents(FakeClock(NOW), settle_seconds=5)
    assert contents.is_complete(str(aged(version, 5)))


def test_files_that_changed_just_now_must_stand_still_first(version: Path) -> None:
    clock = FakeClock(NOW)
    contents = VersionContents(clock, settle_seconds=5)
    path = str(aged(version, -100))  # a writer whose clock is ahead: only our looks count
    assert not contents.is_complete(path)
    clock.advance(4)
    assert not contents.is_complete(path)
    clock.advance(1)
    assert contents.is_complete(path)


def test_every_change_starts_the_wait_anew(version: Path) -> None:
    clock = FakeClock(NOW)
    contents = VersionContents(clock, settle_seconds=5)
    path = str(aged(version, -100))
    contents.is_complete(path)
    for size in range(3):
        clock.advance(4)
        (version / "growing").write_bytes(b"x" * size)
        aged(version, -100)
        assert not contents.is_complete(path)
    clock.advance(5)
    assert contents.is_complete(path)


def test_what_is_complete_stays_so_and_is_not_looked_at_again(version: Path) -> None:
    contents = VersionContents(FakeClock(NOW), settle_seconds=5)
    path = str(aged(version, 50))
    assert contents.is_complete(path)
    (version / "more").write_bytes(b"later")
    aged(version, -100)
    assert contents.is_complete(path)


def test_without_a_time_to_settle_everything_is_taken_at_once(version: Path) -> None:
    assert VersionContents(FakeClock(NOW)).is_complete(str(aged(version, 0)))


def test_where_a_marker_is_named_only_the_marker_counts(version: Path) -> None:
    contents = VersionContents(FakeClock(NOW), settle_seconds=5, marker="_DONE")
    path = str(aged(version, 500))
    assert not contents.is_complete(path)
    (version / "_DONE").touch()
    assert contents.is_complete(path)


def test_a_failed_version_is_revised_once_when_its_files_have_changed_and_settled(
    version: Path,
) -> None:
    clock = FakeClock(NOW)
    contents = VersionContents(clock, settle_seconds=5)
    path = str(aged(version, 50))
    contents.is_complete(path)
    contents.look_again(path)
    assert contents.revision(path) == 0
    (version / "saved_model.pb").write_bytes(b"mended")
    aged(version, -100)
    contents.look_again(path)
    assert contents.revision(path) == 0
    clock.advance(5)
    contents.look_again(path)
    contents.look_again(path)
    assert contents.revision(path) == 1


@pytest.mark.parametrize("touch", ["rename", "permissions"])
def test_a_failed_version_is_revised_when_what_may_have_failed_it_leaves_its_bytes_alone(
    version: Path, touch: str
) -> None:
    """Its load may have found it away, or not readable."""
    contents = VersionContents(FakeClock(NOW))
    contents.is_complete(str(version))
    before = contents_of(str(version))
    while contents_of(str(version)) == before:  # a change within the clock's tick can not be seen
        if touch == "rename":
            version.rename(version.with_name("away"))
            version.with_name("away").rename(version)
        else:
            version.chmod(0o500)
            version.chmod(0o700)
    contents.look_again(str(version))
    assert contents.revision(str(version)) == 1


def test_asking_revises_without_a_change(version: Path) -> None:
    contents = VersionContents(FakeClock(NOW))
    path = str(version)
    contents.is_complete(path)
    contents.revise(path)
    assert contents.revision(path) == 1
    contents.forget(path)
    assert contents.revision(path) == 0
