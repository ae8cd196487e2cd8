"""A servable behind a batch thread that steps by a clock of the test's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.batching.batching_options import (
    BatchingOptions,
    SchedulerOptions,
)
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.errors import (
    ServingError,
)
from serving.core.servable import Outputs, RunCallback, RunOptions
from serving.testing import FakeClock, FakeServable

Result = Outputs | ServingError


class Slow(FakeServable):
    """Takes ``seconds`` of the clock's time for a batch, and remembers the rows of each."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = 0.0
        self.batches: list[list[float]] = []

    def run(
        self,
        feeds: dict[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        self.batches.append(feeds["x:0"].tolist())
        self.clock.advance(self.seconds)
        super().run(feeds, fetches, options, done)


class Batched:
    """A servable behind one batch thread, which is this one when :meth:`step` is called."""

    def __init__(self, options: BatchingOptions) -> None:
        self.clock = FakeClock()
        self.model = Slow(self.clock)
        self.scheduler = SharedBatchScheduler(SchedulerOptions(1), self.clock)
        self.servable = BatchingServable(
            self.model, self.model, self.scheduler, options, self.clock
        )

    def send(self, *rows: float, **options: object) -> list[Result]:
        results: list[Result] = []
        feeds = {"x:0": np.array(rows, np.float32)}
        self.servable.run(feeds, ["y:0"], RunOptions(**options), results.append)
        return results

    def step(self) -> list[list[float]]:
        """The batches that were run now."""
        before = len(self.model.batches)
        while self.scheduler.run_once():
            pass
        return self.model.batches[before:]

    def in_seconds(self, seconds: float) -> float:
        return self.clock.monotonic() + seconds


def error(results: list[Result]) -> type:
    (result,) = results
    return type(result)
