"""Fakes for time and failure, and a real server in this process: for the tests of this project
and of those who build on it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from serving.core.clock import Clock
from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import (
    DEFAULT_SIGNATURE,
    RunCallback,
    RunOptions,
    Servable,
    Signature,
    TensorInfo,
)
from serving.core.servable_id import ServableId

if TYPE_CHECKING:
    from serving.model_server import ModelServer

P = ParamSpec("P")
R = TypeVar("R")


class FakeClock:
    """A clock that stands still until :meth:`advance`. Thread-safe."""

    def __init__(self, start_seconds: float = 1000.0) -> None:
        self._now = start_seconds
        self._changed = threading.Condition()
        self._waits: list[float] = []

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; everyone whose wait is over goes on."""
        with self._changed:
            self._now += seconds
            self._changed.notify_all()

    def wait(self, event: threading.Event, timeout_seconds: float | None) -> bool:
        """As :meth:`Clock.wait`. An event is noticed within a hundredth of a real second."""
        with self._changed:
            until = math.inf if timeout_seconds is None else self._now + timeout_seconds
            self._waits.append(until)
            self._changed.notify_all()
            try:
                while not event.is_set() and self._now < until:
                    self._changed.wait(0.01)
            finally:
                self._waits.remove(until)
        return event.is_set()

    def await_waiters(self, count: int = 1, within_seconds: float = math.inf) -> None:
        """Return once this many threads wait for a later time, so that advancing reaches them.

        Only those are counted whose wait ends within so many seconds.
        """

        def waiting() -> bool:
            latest = self._now + within_seconds
            return sum(self._now < until <= latest for until in self._waits) >= count

        with self._changed:
            if not self._changed.wait_for(waiting, timeout=60):
                raise AssertionError(f"{count} threads should wait on the clock, but do not")


class InlineExecutor(Executor):
    """Runs what is submitted at once, in the caller's thread."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class InlineWork:
    """Does what a manager submits at once, in the caller's thread; no delay is waited for."""

    def submit(
        self,
        servable_id: ServableId,  # noqa: ARG002  # nothing waits here, so nothing is withdrawn
        work: Callable[[], None],
        delay_seconds: float = 0,  # noqa: ARG002  # see above
    ) -> None:
        work()

    def withdraw(self, servable_id: ServableId) -> None:
        """Nothing ever waits."""

    def set_num_threads(self, num_threads: int) -> None:
        """There are none."""

    def close(self) -> None:
        """All that was submitted is done."""


def inline(num_threads: int, name: str, clock: Clock) -> InlineWork:  # noqa: ARG001  # an ExecutorFactory
    """Makes an :class:`InlineWork` where threads that load or unload are asked for."""
    return InlineWork()


class FakeServable:
    """Computes y = x / 2 + 2 in numpy, or whatever function of the feeds it is given."""

    may_run_long = False

    def __init__(
        self,
        compute: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None,
        signatures: Mapping[str, Signature] | None = None,
    ) -> None:
        half_plus_two = Signature(
            inputs={"x": TensorInfo("x:0", DType.FLOAT, (None,))},
            outputs={"y": TensorInfo("y:0", DType.FLOAT, (None,))},
            method_name="tensorflow/serving/predict",
        )
        self.signatures: Mapping[str, Signature] = signatures or {DEFAULT_SIGNATURE: half_plus_two}
        self.closed = False
        self._compute = compute or (lambda feeds: {"y:0": feeds["x:0"] / 2 + 2})

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,  # noqa: ARG002  # nothing here takes long
        done: RunCallback,
    ) -> None:
        try:
            outputs = self._compute(feeds)
            result = [outputs[fetch] for fetch in fetches]
        except (KeyError, ValueError) as error:
            done(InvalidArgument(str(error)))
        else:
            done(result)

    def close(self) -> None:
        self.closed = True


class FakeLoader:
    """Loads a :class:`FakeServable`, or fails with the errors given, one for each attempt."""

    def __init__(
        self,
        *,
        failures: Sequence[BaseException] = (),
        resources: ResourceAllocation | None = None,
        before_load: Callable[[], object] = lambda: None,
        before_unload: Callable[[], object] = lambda: None,
    ) -> None:
        """``before_load`` and ``before_unload`` are called first, to block or to look around."""
        self.attempts = 0
        self.unloads = 0
        self._failures = list(failures)
        self._resources = resources or ResourceAllocation()
        self._before_load = before_load
        self._before_unload = before_unload
        self._servable: Servable | None = None

    def estimate_resources(self) -> ResourceAllocation:
        return self._resources

    def load(self, servable_id: ServableId) -> None:  # noqa: ARG002  # every version is alike
        self.attempts += 1
        self._before_load()
        if self._failures:
            raise self._failures.pop(0)
        self._servable = FakeServable()

    def cancel_load(self) -> None:
        """A load that has begun is finished."""

    def unload(self) -> None:
        self.unloads += 1
        self._before_unload()
        self._servable = None

    @property
    def servable(self) -> Servable | None:
        return self._servable


@contextmanager
def running_server(*flags: str) -> Iterator[ModelServer]:
    """A whole server in this process, on loopback ports that the system picks.

    ``flags`` are those of the command line. Yields the started server, with its ``grpc_port`` and
    ``rest_port``; it ends, drained, with the block. Raises ServingError when it cannot start.
    """
    # Only this fake needs the whole server, and importing it brings TensorFlow.
    from serving.config.command_line import parse_command_line  # noqa: PLC0415
    from serving.config.options import server_options  # noqa: PLC0415
    from serving.model_server import ModelServer  # noqa: PLC0415

    loopback = ("--grpc_bind_address=127.0.0.1:0", "--rest_bind_address=127.0.0.1:0")
    options = server_options(parse_command_line([*loopback, *flags]))
    with ModelServer(options) as server:
        yield server
