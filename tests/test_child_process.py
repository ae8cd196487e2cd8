"""Work in a process of its own: whatever happens there is an outcome here."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.child_process import Outcome, work_in_child
from serving.core.errors import Aborted, DeadlineExceeded, InvalidArgument

_WORKS = """
import os, signal, sys, time
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

def left(status):
    yield "begun"
    os._exit(status)

def broken(_):
    yield "begun"
    raise KeyError("a defect")

def endless(_):
    yield "begun"
    while True:
        time.sleep(60)
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


def test_a_process_that_leaves_is_told_with_its_status():
    assert work_in_child("works:left", 3).error.message == "its process ended with status 3"


def test_a_defect_is_told_with_its_last_words():
    error = work_in_child("works:broken", None).error
    assert isinstance(error, Aborted)
    assert "KeyError: 'a defect'" in error.message


def test_what_takes_too_long_is_ended():
    error = work_in_child("works:endless", None, timeout_seconds=1).error
    assert isinstance(error, DeadlineExceeded)
    assert "more than 1 s" in error.message
