"""A batched servable whose batches are run when a test says so, and what it remembers of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.errors import (
    ServingError,
)
from serving.core.servable import (
    Outputs,
    RunCallback,
    RunOptions,
    Servable,
    Signature,
)
from serving.testing import FakeClock, FakeServable

Feeds = Mapping[str, np.ndarray]

Result = Outputs | ServingError

UNEXPECTED = "the run failed unexpectedly"


class Recorder(FakeServable):
    """A fake that remembers every run: rows, fetches, options."""

    def __init__(
        self,
        compute: Callable[[Feeds], Feeds] | None = None,
        signatures: Mapping[str, Signature] | None = None,
    ) -> None:
        super().__init__(compute, signatures)
        self.feeds: list[Feeds] = []
        self.fetches: list[Sequence[str]] = []
        self.options: list[RunOptions] = []

    def run(
        self, feeds: Feeds, fetches: Sequence[str], options: RunOptions, done: RunCallback
    ) -> None:
        self.feeds.append(feeds)
        self.fetches.append(fetches)
        self.options.append(options)
        super().run(feeds, fetches, options, done)

    @property
    def rows(self) -> list[int]:
        return [len(next(iter(feeds.values()))) for feeds in self.feeds]


class Batched:
    """A batched servable whose batches are run when :meth:`step` says so."""

    def __init__(
        self,
        servable: Servable,
        *,
        allowed_batch_sizes: tuple[int, ...] = (),
        pad_variable_length_inputs: bool = False,
        retry_failed_batch_in_halves: bool = False,
        adaptive: bool = False,
        **queue: int,
    ) -> None:
        self.clock = FakeClock()
        self.scheduler = SharedBatchScheduler(SchedulerOptions(1), self.clock)
        options = BatchingOptions(
            QueueOptions(**queue),
            allowed_batch_sizes,
            pad_variable_length_inputs,
            retry_failed_batch_in_halves,
            adaptive,
        )
        self.servable = BatchingServable(servable, servable, self.scheduler, options, self.clock)

    def send(
        self,
        x: object,
        fetches: Sequence[str] = ("y:0",),
        deadline: float | None = None,
    ) -> list[Result]:
        """Where the result of a run will be; ``x`` is the one input's value, or all feeds."""
        results: list[Result] = []
        feeds = x if isinstance(x, dict) else {"x:0": np.asarray(x)}
        self.servable.run(feeds, fetches, RunOptions(deadline), results.append)
        return results

    def step(self) -> None:
        while self.scheduler.run_once():
            pass


def values(results: list[Result]) -> list[object]:
    """The outputs of a run that was answered once, and well."""
    (result,) = results
    assert not isinstance(result, ServingError), result
    return [output.tolist() for output in result]


def error(results: list[Result]) -> tuple[type, str]:
    """The error of a run that was answered once."""
    (result,) = results
    assert isinstance(result, ServingError), result
    return type(result), result.message


EXPIRED = "Run() timeout exceeded while waiting in batching queue"
