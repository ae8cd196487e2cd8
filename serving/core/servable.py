"""What a loaded model can do, whatever framework runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from serving.core.cancellation import Cancellation
from serving.core.dtypes import DType
from serving.core.errors import ServingError
from serving.core.observed_call import ObservedCall
from serving.core.priority import Priority

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a signature: the engine's tensor name, element type and shape.

    ``shape`` holds None for a dimension of any size, and is None when even the rank is unknown.
    """

    name: str
    dtype: DType
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A named way to call a servable: aliases that clients use, and the tensors behind them.

    ``defaults`` supply inputs that a request leaves out (SignatureDef field 4). ``encoded`` is the
    platform's own description, a serialized tensorflow.SignatureDef where there is one, for APIs
    that hand it on unchanged. ``plans`` is for what the verbs work out about calls through this
    signature and want to find again; it goes when the signature goes.
    """

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method_name: str = ""
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)
    encoded: bytes = b""
    plans: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)


# Every call makes one, and to assign to what is frozen takes three times as long.
@dataclass(slots=True)
class RunOptions:
    """How one run is to be done; ``deadline`` is a point on the clock's monotonic seconds.

    ``cancellation`` comes when nobody waits for the outcome any more, which may be because the
    deadline has passed; a run is free to end early then, and ``done`` is called all the same.
    ``api`` is what the client called, as in ``Predict``, for those who count; empty where no client
    did.
    Where not even a rare long run may hold up the caller's thread, ``caller_may_wait`` is False.
    ``call`` hears when the run begins; None unless calls are observed.
    """

    deadline: Final[float | None] = None
    cancellation: Final[Cancellation | None] = None
    priority: Final[Priority] = Priority.NORMAL
    api: Final[str] = ""
    caller_may_wait: Final[bool] = True
    call: Final[ObservedCall | None] = None


Outputs = Sequence[np.ndarray]
RunCallback = Callable[[Outputs | ServingError], None]


class Servable(Protocol):
    """A loaded version. Everything but :meth:`close` may be called from any thread at any time."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The ways to call it, by name."""

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Compute ``fetches`` from ``feeds``, both by the engine's own tensor names.

        Never raises: ``done`` is called exactly once, on this thread or another, with one array
        for each fetch in order, or with the error. Dimension 0 of a batchable tensor counts rows.
        """

    def close(self) -> None:
        """Free everything it holds. Called once, after the last run has completed."""


@runtime_checkable
class BoundedServable(Servable, Protocol):
    """A servable that does so many runs at once, and has the threads of others wait."""

    @property
    def max_runs(self) -> int:
        """At least 1; does not change."""


@runtime_checkable
class InputBuffers(Protocol):
    """What a servable may be as well: one that says in which memory inputs suit it best."""

    def input_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """New memory for an input, with any content; nobody else has it. Thread-safe.

        Whoever fills it may not write to it once it was fed: outputs may be views of it.
        """


def input_buffers_of(servable: Servable) -> Callable[[Sequence[int], np.dtype], np.ndarray]:
    """What makes memory for inputs of a servable: its own, or np.empty."""
    first = instances_of(servable)[0]
    return first.input_buffer if isinstance(first, InputBuffers) else np.empty


def instances_of(servable: Servable) -> Sequence[Servable]:
    """The loaded copies that share its runs, each of which can go on beside the others' runs.

    A servable that has several, or is around another, keeps them as ``instances``; any other is
    its own only one.
    """
    found: Sequence[Servable] = getattr(servable, "instances", (servable,))
    return found


def may_run_long(servable: Servable) -> bool:
    """Whether a run can take long however quick the runs before it were.

    So it may unless the servable has a ``may_run_long`` that says otherwise.
    """
    return bool(getattr(instances_of(servable)[0], "may_run_long", True))


def max_runs_of(servable: Servable) -> int | None:
    """How many runs its instances do at once; None where they are not bounded."""
    instances = instances_of(servable)
    bounds = [instance.max_runs for instance in instances if isinstance(instance, BoundedServable)]
    return sum(bounds) if bounds else None


def run_and_wait(
    servable: Servable,
    feeds: Mapping[str, np.ndarray],
    fetches: Sequence[str],
    options: RunOptions | None = None,
) -> Outputs:
    """The blocking face of :meth:`Servable.run`; raises the run's error."""
    finished = threading.Event()
    results: list[Outputs | ServingError] = []

    def done(result: Outputs | ServingError) -> None:
        results.append(result)
        finished.set()

    servable.run(feeds, fetches, options or RunOptions(), done)
    finished.wait()
    (result,) = results
    if isinstance(result, ServingError):
        raise result
    return result
