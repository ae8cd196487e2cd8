"""Work in a process of its own: whatever happens there is an outcome here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import START_SECONDS, await_

from serving.core.errors import Aborted, DeadlineExceeded, InvalidArgument
from serving.work_in_child import Outcome, work_in_child

_WORKS = """
import os, resource, signal, sys, tempfile, time
from serving.core.errors import InvalidArgument

def doubled(number):
    print("noise")
    yield number
    yield 2 * number

def refused(text):
    yield "begun"
    raise InvalidArgument(text)

def crashed(_):
    yield "begun"
    print("about to fall", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def killed(_):
    yield "begun"
    os.kill(os.getpid(), signal.SIGKILL)

def left(status):
    yield "begun"
    os._exit(status)

def broken(_):
    yield "begun"
    raise KeyError("a defect")

def endless(file):
    yield "begun"
    if file:
        with open(file, "w") as told:
            told.write(f"{os.getpid()}\\n")
    while True:
        time.sleep(60)

def littering(_):
    yield tempfile.mkdtemp()
    os._exit(1)

def core_bytes(_):
    yield resource.getrlimit(resource.RLIMIT_CORE)
"""


@pytest.fixture(autouse=True)
def _works(tmp_path: Path, monkeypatch):
    (tmp_path / "works.py").write_text(_WORKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_the_last_that_was_told_counts_and_what_is_printed_is_not_shown(capfd):
    assert work_in_child("works:doubled", 21) == Outcome(42)
    assert capfd.readouterr() == ("", "")


def test_an_error_comes_through_with_its_code(tmp_path: Path):
    told, error = work_in_child("works:refused", "no such thing")
    assert told == "begun"
    assert isinstance(error, InvalidArgument)
    assert error.message == "no such thing"


def test_a_crash_is_told_with_its_signal_and_the_last_words():
    told, error = work_in_child("works:crashed", None)
    assert told == "begun"
    assert isinstance(error, Aborted)
    assert error.message == "its process was ended by SIGSEGV; its last words: about to fall"


def test_a_process_that_was_killed_is_told_with_one_hint():
    assert work_in_child("works:killed", None).error.message == (
        "its process was ended by SIGKILL, as happens where memory runs out"
    )


def test_a_process_that_leaves_is_told_with_its_status():
    assert work_in_child("works:left", 3).error.message == "its process ended with exit status 3"


def test_a_defect_is_told_with_its_last_words():
    error = work_in_child("works:broken", None).error
    assert isinstance(error, Aborted)
    assert "KeyError: 'a defect'" in error.message


def test_what_takes_too_long_is_ended():
    error = work_in_child("works:endless", None, timeout_seconds=1).error
    assert isinstance(error, DeadlineExceeded)
    assert "more than 1 s" in error.message


def test_what_is_left_in_the_temporary_directory_goes():
    folder = Path(work_in_child("works:littering", None).told)
    assert folder.is_absolute()
    assert not folder.exists()


def test_a_crash_leaves_no_core_file():
    """It would be as large as the model."""
    assert work_in_child("works:core_bytes", None) == Outcome([0, 0])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its parent")
def test_the_process_ends_with_the_one_that_waits_for_it(tmp_path: Path):
    told = tmp_path / "told"
    program = "import sys; from serving.work_in_child import work_in_child as work; "
    program += "work('works:endless', sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", program, str(told)]) as parent:
        await_(lambda: told.exists() and told.read_text().endswith("\n"), seconds=START_SECONDS)
        parent.kill()
    pid = int(told.read_text())
    await_(lambda: not _runs(pid), lambda: f"the end of {pid}")


def _runs(pid: int) -> bool:
    """One that nobody waits for any more may stay as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
