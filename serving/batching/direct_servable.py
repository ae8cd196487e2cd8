"""A servable whose requests run one by one, each on the thread that suits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

import numpy as np

from serving.core.clock import Clock
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
    """

    def __init__(self, servable: Servable, threads: Executor, clock: Clock) -> None:
        super().__init__(servable)
        self._threads = threads
        self._clock = clock
        self._may_run_long = may_run_long(servable)  # quick runs promise nothing for the next one
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
        else:
            self._threads.submit(self._run, pace, feeds, fetches, options, done)

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
