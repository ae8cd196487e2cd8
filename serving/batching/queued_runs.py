"""A servable whose runs exceed what it can do at once: the others wait here, on no thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np

from serving.batching.batching_task import GIVEN_UP
from serving.core.errors import Cancelled, ServingError, Unavailable
from serving.core.observed_call import CURRENT_CALL, working_for
from serving.core.servable import Outputs, RunCallback, RunOptions, Servable
from serving.core.servable_wrapper import ServableWrapper

MOST_WAITING = 4096
"""Runs of one servable, whose inputs are kept in memory."""


def too_many_wait() -> Unavailable:
    """The answer to what comes while :data:`MOST_WAITING` runs wait."""
    return Unavailable(f"{MOST_WAITING} requests wait for this model already")


class _Run(NamedTuple):
    """The arguments of :meth:`Servable.run`."""

    feeds: Mapping[str, np.ndarray]
    fetches: Sequence[str]
    options: RunOptions
    done: RunCallback


class QueuedRuns(ServableWrapper):
    """Wraps a servable: it gets ``max_runs`` runs at once, and the next when one of them is done.

    They go in the order they came. The next begins on the thread that was done, so what is wrapped
    should hand over runs that take long, as :class:`DirectServable` does. A call that is given up
    while it waits is not run; it is answered there and then. UNAVAILABLE is the answer to what
    comes while :data:`MOST_WAITING` wait.
    """

    def __init__(self, servable: Servable, max_runs: int) -> None:
        super().__init__(servable)
        self._lock = threading.Lock()
        self._free = max_runs
        self._tickets = count()
        self._waiting: OrderedDict[int, _Run] = OrderedDict()
        self._here = threading.local()

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        ticket = None
        with self._lock:
            is_free, is_full = self._free > 0, len(self._waiting) >= MOST_WAITING
            if is_free:
                self._free -= 1
            elif not is_full:
                # The thread that begins it will be another, which others may need.
                waiting = replace(options, caller_may_wait=False)
                ticket = next(self._tickets)
                self._waiting[ticket] = _Run(feeds, fetches, waiting, done)
        if is_free:
            self._begin(_Run(feeds, fetches, options, done))
        elif ticket is None:
            done(too_many_wait())
        elif options.cancellation is not None:
            # The ticket, not the run, which refers to the cancellation: that were a circle.
            options.cancellation.when_cancelled(partial(self._give_up, ticket))

    def _give_up(self, ticket: int) -> None:
        with self._lock:
            run = self._waiting.pop(ticket, None)
        if run is not None:
            run.done(Cancelled(GIVEN_UP))

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
                call = run.options.call
                # The thread works for the call whose run has just ended.
                is_known = call is CURRENT_CALL.get()
                with nullcontext() if is_known else working_for(call):
                    self._begin(run)
        finally:
            self._here.beginning = False

    def _next(self) -> _Run | None:
        with self._lock:
            if not self._free or not self._waiting:
                return None
            self._free -= 1
            return self._waiting.popitem(last=False)[1]
