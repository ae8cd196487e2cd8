"""A servable whose runs exceed what it can do at once: the others wait here, on no thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from serving.batching.batching_task import GIVEN_UP
from serving.core.errors import Cancelled, ServingError
from serving.core.servable import Outputs, RunCallback, RunOptions, Servable, Signature


class _Run(NamedTuple):
    """The arguments of :meth:`Servable.run`."""

    feeds: Mapping[str, np.ndarray]
    fetches: Sequence[str]
    options: RunOptions
    done: RunCallback


class QueuedRuns:
    """Wraps a servable: it gets ``max_runs`` runs at once, and the next when one of them is done.

    They go in the order they came. The next begins on the thread that was done, so what is wrapped
    should hand over runs that take long, as :class:`DirectServable` does. A call that is given up
    while it waits is not run; it is answered when its turn comes.
    """

    def __init__(self, servable: Servable, max_runs: int) -> None:
        self._servable = servable
        self._lock = threading.Lock()
        self._free = max_runs
        self._waiting: deque[_Run] = deque()
        self._here = threading.local()

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        with self._lock:
            if not self._free:
                # The thread that begins it will be another, which others may need.
                options = replace(options, caller_may_wait=False)
                self._waiting.append(_Run(feeds, fetches, options, done))
                return
            self._free -= 1
        self._begin(_Run(feeds, fetches, options, done))

    def close(self) -> None:
        self._servable.close()

    def _begin(self, run: _Run) -> None:
        if run.options.cancellation is not None and run.options.cancellation.cancelled:
            self._ended(run.done, Cancelled(GIVEN_UP))
        else:
            ended = partial(self._ended, run.done)
            self._servable.run(run.feeds, run.fetches, run.options, ended)

    def _ended(self, done: RunCallback, result: Outputs | ServingError) -> None:
        try:
            done(result)
        finally:
            with self._lock:
                self._free += 1
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        """A run may be over when this returns: then the same thread is here again, further down."""
        if getattr(self._here, "beginning", False):
            return
        self._here.beginning = True
        try:
            while run := self._next():
                self._begin(run)
        finally:
            self._here.beginning = False

    def _next(self) -> _Run | None:
        with self._lock:
            if not self._free or not self._waiting:
                return None
            self._free -= 1
            return self._waiting.popleft()

    def __repr__(self) -> str:
        return f"<QueuedRuns of {self._servable!r}>"
