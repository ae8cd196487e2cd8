"""A servable whose requests run one by one, each on the thread that suits it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

import numpy as np

from serving.batching.batching_task import GIVEN_UP
from serving.batching.queued_runs import MOST_WAITING, too_many_wait
from serving.core.clock import Clock
from serving.core.errors import Cancelled
from serving.core.pace import Pace
from serving.core.servable import RunCallback, RunOptions, Servable, may_run_long
from serving.core.servable_wrapper import ServableWrapper

_MOST_PACES = 256


class DirectServable(ServableWrapper):
    """Wraps a servable: quick runs are done on the caller's thread, others on ``threads``.

    The caller may be the thread that all calls of all models come in on. Handing a run over costs
    some 50 µs, more than many models compute; not handing over a long one makes everybody wait.
    So the runs of each combination of outputs start on ``threads`` and move to the caller once
    they have turned out quick, see :class:`~serving.core.pace.Pace`. Clients choose outputs
    freely, so there is a bound to the combinations remembered; others run on ``threads``. So does
    everything that :func:`~serving.core.servable.may_run_long`, for a caller that can not wait.
    UNAVAILABLE is the answer to what would have to be handed over while :data:`MOST_WAITING` runs
    of this servable wait for a thread. A call that is given up while it waits is not run.
    """

    def __init__(self, servable: Servable, threads: Executor, clock: Clock) -> None:
        super().__init__(servable)
        self._threads = threads
        self._clock = clock
        self._may_run_long = may_run_long(servable)  # quick runs promise nothing for the next one
        self._lock = threading.Lock()
        self._waiting = 0  # for a thread
        self._paces: dict[tuple[str, ...], Pace] = {}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        key = tuple(fetches)
        pace = self._paces.get(key)
        if pace is None:
            pace = Pace()
            if len(self._paces) < _MOST_PACES:
                self._paces[key] = pace
        if pace.quick and (options.caller_may_wait or not self._may_run_long):
            self._run(pace, feeds, fetches, options, done)
        elif self._may_wait():
            self._threads.submit(self._run_handed_over, pace, feeds, fetches, options, done)
        else:
            done(too_many_wait())

    def _may_wait(self) -> bool:
        with self._lock:
            if self._waiting >= MOST_WAITING:
                return False
            self._waiting += 1
            return True

    def _run_handed_over(
        self,
        pace: Pace,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        with self._lock:
            self._waiting -= 1
        if options.cancellation is not None and options.cancellation.cancelled:
            done(Cancelled(GIVEN_UP))
        else:
            self._run(pace, feeds, fetches, options, done)

    def _run(
        self,
        pace: Pace,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        started = self._clock.monotonic()
        if options.call is not None:
            options.call.run_begins(requests=1, rows=None)
        self._servable.run(feeds, fetches, options, done)
        pace.learn(self._clock.monotonic() - started)
