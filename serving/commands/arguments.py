"""What the arguments of commands have in common."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.core.errors import ServingError

FAILURE = 2
"""The exit status of a command that could not do its work: argparse's for wrong arguments."""


def parser_of(command: str, description: str) -> argparse.ArgumentParser:
    """A parser with the argument that every command about logs has."""
    parser = argparse.ArgumentParser(
        prog=f"model_server {command}", description=description, allow_abbrev=False
    )
    parser.add_argument(
        "--request_log",
        required=True,
        metavar="PATH",
        help="a file of PredictionLogs, or the filename_prefix of a request log",
    )
    return parser


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def not_negative(text: str) -> float:
    """A number that is 0 or more."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return number


def told(command: str, work: Callable[[], int]) -> int:
    """The exit status of the work; an error is told in one line.

    Where SIGTERM ends it, it has let go of its files and processes before.
    """
    try:
        with _left_on_sigterm():
            return work()
    except ServingError as error:
        message = str(error)
    except OSError as error:
        why = error.strerror or str(error)
        message = f"{error.filename}: {why}" if error.filename else why
    text = message.replace("\n", " ")
    sys.stderr.write(f"model_server {command}: {text}\n")
    return FAILURE


@contextmanager
def _left_on_sigterm() -> Iterator[None]:
    """Have the signal raise SystemExit; where this is not the main thread, nothing can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
