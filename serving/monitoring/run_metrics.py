"""Counts and times the runs of versions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.core.errors import Code, ServingError
from serving.core.servable import Outputs, RunCallback, RunOptions, Servable
from serving.core.servable_id import ServableId
from serving.core.servable_wrapper import ServableWrapper
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS
from serving.monitoring.bounds import CALL_SECONDS

_COUNTED_BY_TENSORFLOW_SERVING = frozenset({"Predict", "Classify", "Regress"})
_RUNTIMES: Mapping[str, str] = {"tensorflow": "TF1"}
"""TensorFlow Serving's names; a platform that it does not have is its own runtime."""


_Observe = Callable[[float], None]
_Observers = tuple[_Observe, _Observe | None]
"""Take in how long a run took that ended well: seconds, and microseconds where those count."""


class RunMetrics:
    """Has the runs of versions counted by model, version and API, and timed from the moment they
    are asked for: a wait for a batch or a thread is part of it. Thread-safe.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.histogram(
            "model_server_run_duration_seconds",
            "Runs of a version by their outcome, with the wait for a batch or a thread.",
            ("model_name", "version", "api", "code"),
            CALL_SECONDS,
        )
        self._in_progress = metrics.gauge(
            "model_server_runs_in_progress",
            "Runs of a version that have begun or wait.",
            ("model_name", "version"),
        )
        self._runtime_latency = metrics.histogram(
            "/tensorflow/serving/runtime_latency",
            "How long runs took that ended well, in microseconds.",
            ("model_name", "API", "runtime"),
            LATENCY_BOUNDS,
        )

    def measured(self, servable: Servable, servable_id: ServableId, platform: str) -> Servable:
        """The servable with all its runs counted."""
        name, version = servable_id.name, str(servable_id.version)
        runtime = _RUNTIMES.get(platform, platform)

        def succeeded(api: str) -> _Observers:
            observe = self._seconds.cell(name, version, api, Code.OK.name).observe
            if api not in _COUNTED_BY_TENSORFLOW_SERVING:
                return observe, None
            return observe, self._runtime_latency.cell(name, api, runtime).observe

        def failed(api: str, code: Code, seconds: float) -> None:
            self._seconds.observe(seconds, name, version, api, code.name)

        in_progress = self._in_progress.cell(name, version).add
        return _MeasuredServable(servable, in_progress, succeeded, failed)

    def forget(self, servable_id: ServableId) -> None:
        """Drop what is kept for this version alone, which is gone."""
        of_version = {"model_name": servable_id.name, "version": str(servable_id.version)}
        self._seconds.forget(**of_version)
        self._in_progress.forget(**of_version)


class _MeasuredServable(ServableWrapper):
    """Another servable whose runs are told of."""

    def __init__(
        self,
        servable: Servable,
        in_progress: _Observe,
        succeeded: Callable[[str], _Observers],
        failed: Callable[[str, Code, float], None],
    ) -> None:
        super().__init__(servable)
        self._in_progress = in_progress
        self._succeeded = succeeded
        self._failed = failed
        self._observers: dict[str, _Observers] = {}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        began = time.perf_counter()
        self._in_progress(1)

        def measured(result: Outputs | ServingError) -> None:
            seconds = time.perf_counter() - began
            self._in_progress(-1)
            if isinstance(result, ServingError):
                self._failed(options.api, result.code, seconds)
            else:
                observe, observe_micros = self._observers_of(options.api)
                observe(seconds)
                if observe_micros is not None:
                    observe_micros(seconds * 1e6)
            done(result)

        self._servable.run(feeds, fetches, options, measured)

    def _observers_of(self, api: str) -> _Observers:
        """Kept, as looking them up costs more than what they do."""
        found = self._observers.get(api)
        if found is None:
            found = self._observers[api] = self._succeeded(api)
        return found
