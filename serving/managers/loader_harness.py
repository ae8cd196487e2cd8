"""The life of one loader: eleven states, and the only steps allowed between them."""

from __future__ import annotations

import enum
import itertools
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from serving.core.clock import Clock
from serving.core.errors import Cancelled, FailedPrecondition, Internal, ServingError
from serving.core.loader import Loader
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId

log = logging.getLogger(__name__)

T = TypeVar("T")


class HarnessState(enum.Enum):
    """Where a loader stands; the values are the words that error texts use."""

    NEW = "new"
    LOAD_REQUESTED = "load-requested"
    LOAD_APPROVED = "load-approved"
    LOADING = "loading"
    READY = "ready"
    UNLOAD_REQUESTED = "unload-requested"
    QUIESCING = "quiescing"
    QUIESCED = "quiesced"
    UNLOADING = "unloading"
    DISABLED = "disabled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed load is tried again, and how long to wait before; negative: no wait."""

    max_retries: int = 5
    interval_seconds: float = 60.0


def presentable(error: BaseException, doing: str) -> ServingError:
    """The error as a state may show it: anything that is no ServingError keeps its details here.

    Of an error of the operating system, its own name for it is shown.
    """
    if isinstance(error, ServingError):
        return error
    log.error("%s raised", doing, exc_info=error)
    reason = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        reason += f" ({os.strerror(error.errno)})"
    return Internal(f"{doing} failed: {reason}")


def _cancelled() -> ServingError:
    return Cancelled("Loading of servable cancelled")


class LoaderHarness:
    """Takes one loader through its states. Thread-safe.

    A step that the present state does not allow is a defect: it raises Internal and leaves the
    harness in ERROR. Whatever a loader raises ends there as well, SystemExit included: code that
    comes with a model must not be able to end a thread of the manager.
    """

    def __init__(self, data: ServableData[Loader], retry: RetryPolicy, clock: Clock) -> None:
        self.id: ServableId = data.id
        self._loader = None if isinstance(data.payload, ServingError) else data.payload
        self._retry = retry
        self._clock = clock
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._error = data.error
        self._state = HarnessState.ERROR if data.error else HarnessState.NEW

    @property
    def state(self) -> HarnessState:
        return self._state

    @property
    def error(self) -> ServingError | None:
        """Why the harness is in ERROR; None in every other state."""
        return self._error

    @property
    def loader(self) -> Loader:
        """The loader; only for a version that arrived without an error."""
        if self._loader is None:
            raise Internal(f"servable {self.id} has no loader: {self._error}")
        return self._loader

    def request_load(self) -> None:
        """NEW → LOAD_REQUESTED; raises FailedPrecondition when that was done before."""
        with self._lock:
            if self._state is not HarnessState.NEW:
                raise FailedPrecondition("Duplicate load request")
            self._state = HarnessState.LOAD_REQUESTED

    def estimate_resources(self) -> ResourceAllocation:
        """What the loader says it will hold; asked again as a load is tried again."""
        return self._with_retries("estimating", self.loader.estimate_resources)

    def approve_load(self) -> None:
        """LOAD_REQUESTED → LOAD_APPROVED."""
        self._step(HarnessState.LOAD_REQUESTED, HarnessState.LOAD_APPROVED)

    def load(self, make_available: Callable[[Servable], None]) -> None:
        """LOAD_APPROVED → LOADING → READY, with retries; raises the last attempt's error.

        Blocks for as long as the load takes. ``make_available`` is called with what was loaded
        just before READY, so that nobody can ask to unload a version that is not yet offered.
        When the load was cancelled meanwhile, what was loaded is unloaded again and Cancelled is
        raised; the same is undone when ``make_available`` raises. A failure leaves the harness in
        ERROR.
        """
        self._step(HarnessState.LOAD_APPROVED, HarnessState.LOADING)
        try:
            servable = self._with_retries("loading", self._load_once)
            self._offer(servable, make_available)
        except BaseException as error:
            raise self._fail_unexpectedly("loading", error) from error
        self._step(HarnessState.LOADING, HarnessState.READY)

    def cancel_load(self) -> None:
        """Stop trying; an attempt in progress is finished, and undone if it succeeds."""
        self._cancelled.set()

    def request_unload(self) -> None:
        """READY → UNLOAD_REQUESTED; raises FailedPrecondition in any other state."""
        with self._lock:
            if self._state is not HarnessState.READY:
                raise FailedPrecondition("Servable not loaded, or unload already requested/ongoing")
            self._state = HarnessState.UNLOAD_REQUESTED

    def start_quiescing(self) -> None:
        """UNLOAD_REQUESTED → QUIESCING: no new leases, those out are waited for."""
        self._step(HarnessState.UNLOAD_REQUESTED, HarnessState.QUIESCING)

    def done_quiescing(self) -> None:
        """QUIESCING → QUIESCED: nobody holds the version."""
        self._step(HarnessState.QUIESCING, HarnessState.QUIESCED)

    def unload(self) -> None:
        """QUIESCED → UNLOADING → DISABLED; raises what the loader raised, and is then in ERROR."""
        self._step(HarnessState.QUIESCED, HarnessState.UNLOADING)
        try:
            self.loader.unload()
        except BaseException as error:
            raise self._fail_unexpectedly("unloading", error) from error
        self._step(HarnessState.UNLOADING, HarnessState.DISABLED)

    def fail(self, error: ServingError) -> None:
        """Any state → ERROR, for this reason."""
        with self._lock:
            self._state, self._error = HarnessState.ERROR, error

    def _step(self, expected: HarnessState, following: HarnessState) -> None:
        with self._lock:
            found = self._state
            if found is expected:
                self._state = following
                return
            error = Internal(
                f"Illegal request to transition from state {found.value} to {following.value}"
            )
            self._state, self._error = HarnessState.ERROR, error
        raise error

    def _with_retries(self, doing: str, attempt: Callable[[], T]) -> T:
        for number in itertools.count(1):
            if self._cancelled.is_set():
                raise _cancelled()
            try:
                return attempt()
            except BaseException as error:
                if number > self._retry.max_retries:
                    raise
                self._wait_to_retry(doing, number, error)
        raise AssertionError("unreachable: the loop above only returns or raises")

    def _load_once(self) -> Servable:
        self.loader.load(self.id)
        servable = self.loader.servable
        if servable is None:
            raise Internal(f"the loader of servable {self.id} loaded nothing")
        return servable

    def _offer(self, servable: Servable, make_available: Callable[[Servable], None]) -> None:
        """Hand over what was loaded, or unload it again."""
        try:
            if self._cancelled.is_set():
                raise _cancelled()
            make_available(servable)
        except BaseException:
            self.loader.unload()
            raise

    def _wait_to_retry(self, doing: str, attempt: int, error: BaseException) -> None:
        """Returns early when the load is cancelled."""
        log.warning(
            "%s %s failed (attempt %d of %d): %s",
            doing,
            self.id,
            attempt,
            self._retry.max_retries + 1,
            error,
        )
        self._clock.wait(self._cancelled, max(0.0, self._retry.interval_seconds))

    def _fail_unexpectedly(self, doing: str, error: BaseException) -> ServingError:
        failure = presentable(error, f"{doing} servable {self.id}")
        self.fail(failure)
        return failure

    def __repr__(self) -> str:
        return f"<LoaderHarness {self.id} {self._state.value}>"
