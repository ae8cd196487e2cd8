"""One prepared way to run a graph: these feeds, those fetches, on the thread that suits it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from serving.core.clock import Clock
from serving.core.dtypes import DType, dtype_of, numpy_dtype
from serving.core.errors import DeadlineExceeded, InvalidArgument
from serving.core.pace import Pace

_LONGEST_TIMEOUT_MS = 2**31 - 1  # 24 days; far longer ones overflow the runtime's clock


class NativeSession(Protocol):
    """The two ways into TensorFlow's runtime; both raise tf.errors.OpError."""

    graph: tf.Graph

    def endpoint(self, tensor: tf.Tensor) -> Any: ...

    def run_on_pool(
        self, feeds: dict[Any, np.ndarray], fetches: list[Any], timeout_ms: int | None
    ) -> list[Any]: ...

    def callable_here(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[..., Any]: ...


class Step:
    """Feeds and fetches, resolved to the graph's tensors. Thread-safe.

    A run on the runtime's inter-op threads can be ended by a deadline, but handing it over and
    back costs several times what a small graph computes; a run on the caller's thread costs
    nothing extra and cannot be ended. So a step starts on the pool, moves to the caller's thread
    once its :class:`~serving.core.pace.Pace` is quick, and goes back after slow runs. In a graph
    that ``may_run_long`` quick runs promise nothing for the next one, so that runs with a deadline
    stay on the pool there.

    Raises InvalidArgument for a name that is not in the graph, or a tensor that holds no data.
    """

    def __init__(
        self,
        session: NativeSession,
        feeds: Sequence[str],
        fetches: Sequence[str],
        clock: Clock,
        *,
        may_run_long: bool,
    ) -> None:
        self._session = session
        self._clock = clock
        self._may_run_long = may_run_long
        # Sorted as the runtime sorts them: its errors number the arguments.
        self._feed_names = sorted(feeds)
        self._fetch_names = sorted(set(fetches))
        order = [self._fetch_names.index(name) for name in fetches]
        self._order = None if order == [*range(len(self._fetch_names))] else order
        feed_tensors = [tensor_of(session.graph, name) for name in self._feed_names]
        fetch_tensors = [tensor_of(session.graph, name) for name in self._fetch_names]
        self._feed_types = [element_type(tensor.dtype) for tensor in feed_tensors]
        self._feed_dtypes = [numpy_dtype(dtype) for dtype in self._feed_types]
        self._fetch_dtypes = [numpy_dtype(element_type(tensor.dtype)) for tensor in fetch_tensors]
        self._feed_endpoints = [session.endpoint(tensor) for tensor in feed_tensors]
        self._fetch_endpoints = [session.endpoint(tensor) for tensor in fetch_tensors]
        # A signature may leave out the ":0" of a tensor's name; not everything forgives that.
        self._tensor_names = (
            [tensor.name for tensor in feed_tensors],
            [tensor.name for tensor in fetch_tensors],
        )
        self._here: Callable[..., Sequence[Any]] | None = None
        self._pace = Pace()

    def run(self, feeds: Mapping[str, np.ndarray], deadline: float | None) -> list[np.ndarray]:
        """One array for each fetch. Raises ServingError or tf.errors.OpError."""
        arguments = self._arguments(feeds)
        started = self._clock.monotonic()
        if deadline is not None and deadline <= started:
            raise _too_late()
        needs_pool = deadline is not None and self._may_run_long
        here = None if needs_pool else self._here
        if here is not None:
            values = here(*arguments)
        else:
            timeout_ms = None if deadline is None else _milliseconds(deadline - started)
            endpoints = dict(zip(self._feed_endpoints, arguments, strict=True))
            values = self._session.run_on_pool(endpoints, self._fetch_endpoints, timeout_ms)
        ended = self._clock.monotonic()
        if not needs_pool:
            self._learn(ended - started)
        if deadline is not None and deadline <= ended:
            raise _too_late()
        return self._results(values)

    def _learn(self, seconds: float) -> None:
        self._pace.learn(seconds)
        if not self._pace.quick:
            self._here = None
        elif self._here is None:  # unlocked: two callables made at once are alike
            self._here = self._session.callable_here(*self._tensor_names)

    def _arguments(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        # Checked before the runtime does, which would log a warning for every bad request, word
        # the error differently on the two paths, and read a foreign byte order as if native.
        arguments = [feeds[name] for name in self._feed_names]
        if [array.dtype for array in arguments] != self._feed_dtypes:
            for index, array in enumerate(arguments):
                check_type(index, self._feed_types[index], array)
        return arguments

    def _results(self, values: Sequence[Any]) -> list[np.ndarray]:
        arrays = arrays_of(values, self._fetch_dtypes)
        return arrays if self._order is None else [arrays[index] for index in self._order]


def element_type(dtype: tf.DType) -> DType:
    """TensorFlow's element type as ours; references count as what they refer to.

    Raises InvalidArgument for types that cannot travel.
    """
    try:
        return DType(dtype.base_dtype.as_datatype_enum)
    except ValueError:
        raise InvalidArgument(f"tensors of type {dtype.name} are not supported") from None


def check_type(index: int, wanted: DType, array: np.ndarray) -> None:
    """Raise the runtime's own error where the array for this argument is of another type."""
    if array.dtype == numpy_dtype(wanted):
        return
    provided = dtype_of(array)
    if provided is not wanted:
        raise InvalidArgument(
            f"Expects arg[{index}] to be {wanted.label} but {provided.label} is provided"
        )


def arrays_of(values: Sequence[Any], dtypes: Sequence[np.dtype]) -> list[np.ndarray]:
    """What the runtime returned, as read-only arrays of these types."""
    arrays = []
    for value, dtype in zip(values, dtypes, strict=True):
        # The runtime returns bare scalars for rank 0.
        array = value if type(value) is np.ndarray else np.array(value, dtype=dtype)
        if array.dtype is not dtype and array.dtype != dtype:
            array = array.view(dtype)  # quantized types come back as plain integers
        # The array may be the memory of a constant in the graph; a write would change it.
        array.setflags(write=False)
        arrays.append(array)
    return arrays


def tensor_of(graph: tf.Graph, name: str) -> tf.Tensor:
    """Raises InvalidArgument for a name that is not in the graph."""
    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        raise InvalidArgument(
            f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in "
            "the Graph"
        ) from None


def _milliseconds(seconds: float) -> int:
    return math.ceil(min(seconds * 1000, _LONGEST_TIMEOUT_MS))


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("Timed out waiting for notification")
