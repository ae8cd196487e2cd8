"""The life of one loader: eleven states, and the only steps allowed between them."""

from __future__ import annotations

import enum
import errno
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from serving.core.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
)
from serving.core.loader import Loader
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_DEFECTS: Mapping[int, type[ServingError]] = {
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.ENOSPC: ResourceExhausted,
    errno.EDQUOT: ResourceExhausted,
    errno.EROFS: FailedPrecondition,
}
"""What the operating system refuses for reasons that an operator can mend, whatever was read."""


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

    Of an error of the operating system, its own name for it is shown. A trace of calls is logged
    where the error may be a defect.
    """
    if isinstance(error, ServingError):
        return error
    reason = type(error).__name__
    kind: type[ServingError] = Internal
    if isinstance(error, OSError) and error.errno is not None:
        reason += f" ({os.strerror(error.errno)})"
        kind = _NO_DEFECTS.get(error.errno, Internal)
    if kind is Internal:
        log.error("%s raised", doing, exc_info=error)
    else:
        log.error("%s failed: %s", doing, error)
    return kind(f"{doing} failed: {reason}")


def _cancelled() -> ServingError:
    return Cancelled("Loading of servable cancelled")


class LoaderHarness:
    """Takes one loader through its states. Thread-safe.

    A step that the present state does not allow is a defect: it raises Internal and leaves the
    harness in ERROR. Whatever a loader raises ends there as well, SystemExit included: code that
    comes with a model must not be able to end a thread of the manager. Nothing waits in here:
    whoever is told that an attempt failed makes the next one after :attr:`retry_seconds`.
    """

    def __init__(self, data: ServableData[Loader], retry: RetryPolicy) -> None:
        self.id: ServableId = data.id
        self._loader = None if isinstance(data.payload, ServingError) else data.payload
        self._retry = retry
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._failed_attempts = 0
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
    def is_cancelled(self) -> bool:
        """Whether nobody wants the load any more."""
        return self._is_cancelled

    @property
    def retry_seconds(self) -> float:
        """How long to wait before the next attempt."""
        return max(0.0, self._retry.interval_seconds)

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

    def estimate_resources(self) -> ResourceAllocation | None:
        """What the loader says it will hold; None when that failed and is to be asked again.

        Raises the error of the last attempt, and Cancelled.
        """
        return self._attempt("estimating", self.loader.estimate_resources)

    def approve_load(self) -> None:
        """LOAD_REQUESTED → LOAD_APPROVED."""
        self._step(HarnessState.LOAD_REQUESTED, HarnessState.LOAD_APPROVED)

    def load(self, make_available: Callable[[Servable], None]) -> bool:
        """LOAD_APPROVED → LOADING → READY; or back, and False, when it is to be tried again.

        Blocks for as long as one attempt takes. ``make_available`` is called with what was loaded
        just before READY, so that nobody can ask to unload a version that is not yet offered.
        When the load was cancelled meanwhile, what was loaded is unloaded again and Cancelled is
        raised; the same is undone when ``make_available`` raises. The error of the last attempt
        is raised, and leaves the harness in ERROR like the others.
        """
        self._step(HarnessState.LOAD_APPROVED, HarnessState.LOADING)
        try:
            servable = self._attempt("loading", self._load_once)
            if servable is not None:
                self._offer(servable, make_available)
        except BaseException as error:
            raise self._fail_unexpectedly("loading", error) from error
        is_loaded = servable is not None
        following = HarnessState.READY if is_loaded else HarnessState.LOAD_APPROVED
        self._step(HarnessState.LOADING, following)
        return is_loaded

    def cancel_load(self) -> None:
        """Stop trying; an attempt in progress ends early, or is undone if it succeeds."""
        self._is_cancelled = True
        if self._loader is not None:
            self._loader.cancel_load()

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

    def _attempt(self, doing: str, step: Callable[[], T]) -> T | None:
        """None after a failure that was not the last one allowed."""
        if self._is_cancelled:
            raise _cancelled()
        try:
            return step()
        except BaseException as error:
            self._failed_attempts += 1
            if self._failed_attempts > self._retry.max_retries:
                raise
            log.warning(
                "%s %s failed (attempt %d of %d): %s",
                doing,
                self.id,
                self._failed_attempts,
                self._retry.max_retries + 1,
                error,
            )
            return None

    def _load_once(self) -> Servable:
        self.loader.load(self.id)
        servable = self.loader.servable
        if servable is None:
            raise Internal(f"the loader of servable {self.id} loaded nothing")
        return servable

    def _offer(self, servable: Servable, make_available: Callable[[Servable], None]) -> None:
        """Hand over what was loaded, or unload it again."""
        try:
            if self._is_cancelled:
                raise _cancelled()
            make_available(servable)
        except BaseException:
            self.loader.unload()
            raise

    def _fail_unexpectedly(self, doing: str, error: BaseException) -> ServingError:
        failure = presentable(error, f"{doing} servable {self.id}")
        self.fail(failure)
        return failure

    def __repr__(self) -> str:
        return f"<LoaderHarness {self.id} {self._state.value}>"
