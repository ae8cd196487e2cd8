"""Locks between threads and processes, and what is left of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from waiting import WAIT_SECONDS

from serving.sources.file_lock import FileLock

HOLDER = """
import sys
from pathlib import Path
from serving.sources.file_lock import FileLock
lock = FileLock.acquire(Path(sys.argv[1]), shared=False, wait=True)
print("held", flush=True)
sys.stdin.read()
"""


def tried(path: Path, *, shared: bool) -> FileLock | None:
    return FileLock.acquire(path, shared=shared, wait=False)


def test_shared_locks_are_held_together_and_exclude_one_that_is_not(tmp_path: Path):
    path = tmp_path / "lock"
    first, second = tried(path, shared=True), tried(path, shared=True)
    assert first
    assert second
    assert tried(path, shared=False) is None
    first.release()
    assert tried(path, shared=False) is None
    second.release()
    alone = tried(path, shared=False)
    assert alone
    assert tried(path, shared=True) is None
    alone.release()


def test_who_waits_gets_the_lock_when_it_is_released(tmp_path: Path):
    path = tmp_path / "lock"
    held = tried(path, shared=False)
    got: list[FileLock | None] = []
    thread = threading.Thread(
        target=lambda: got.append(FileLock.acquire(path, shared=False, wait=True)),
        daemon=True,
    )
    thread.start()
    assert got == []
    assert held
    held.release()
    thread.join(WAIT_SECONDS)
    assert got[0]
    got[0].release()


def test_a_lock_whose_file_was_removed_is_not_taken_for_one(tmp_path: Path):
    """Else two would hold "the" lock: one on the removed file, one on the new."""
    path = tmp_path / "lock"
    held = tried(path, shared=False)
    assert held
    got: list[FileLock | None] = []
    thread = threading.Thread(
        target=lambda: got.append(FileLock.acquire(path, shared=False, wait=True)),
        daemon=True,
    )
    thread.start()
    held.remove()
    thread.join(WAIT_SECONDS)
    assert path.exists()
    assert tried(path, shared=True) is None
    assert got[0]
    got[0].release()


def test_a_killed_process_holds_nothing(tmp_path: Path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        assert tried(path, shared=True) is None
        holder.kill()
    lock = tried(path, shared=False)
    assert lock
    lock.release()
