"""Waiting on the main thread, where Python runs the handlers of signals.

A signal may come between the moment this thread lets the interpreter go and the moment it sleeps;
nothing would wake it then, so it wakes by itself.
"""

from __future__ import annotations

import concurrent.futures
import threading
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

_SECONDS_TO_HEAR_SIGNALS = 0.5

T = TypeVar("T")


def next_of(queue: SimpleQueue[T]) -> T:
    """The next item of the queue. Raises what a signal's handler does."""
    while True:
        try:
            return queue.get(timeout=_SECONDS_TO_HEAR_SIGNALS)
        except Empty:
            continue


def wait_until_set(event: threading.Event) -> None:
    """Return once the event is set. Raises what a signal's handler does."""
    while not event.wait(_SECONDS_TO_HEAR_SIGNALS):
        continue


def result_of(future: Future[T]) -> T:
    """The result, or what the future or a signal's handler raises."""
    while not future.done():
        concurrent.futures.wait([future], timeout=_SECONDS_TO_HEAR_SIGNALS)
    return future.result()
