"""Counts and times the runs of versions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.core.errors import Code, ServingError
from serving.core.servable import Outputs, RunCallback, RunOptions, Servable, Signature
from serving.core.servable_id import ServableId
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS
from serving.monitoring.buckets import CALL_SECONDS

_OK = Code.OK.name
_COUNTED_BY_TENSORFLOW_SERVING = frozenset({"Predict", "Classify", "Regress"})
_RUNTIMES: Mapping[str, str] = {"tensorflow": "TF1"}
"""TensorFlow Serving's names; a platform that it does not have is its own runtime."""


_Observe = Callable[[float], None]


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
        succeeded: dict[str, _Observe] = {}

        def answered(api: str, code: str, seconds: float) -> None:
            if code != _OK:
                self._seconds.observe(seconds, name, version, api, code)
                return
            observe = succeeded.get(api)
            if observe is None:
                observe = succeeded[api] = self._observer(servable_id, api, platform)
            observe(seconds)

        return _MeasuredServable(servable, self._in_progress.cell(name, version).add, answered)

    def _observer(self, servable_id: ServableId, api: str, platform: str) -> _Observe:
        """What takes in the seconds of runs that ended well."""
        name, version = servable_id.name, str(servable_id.version)
        observe = self._seconds.cell(name, version, api, _OK).observe
        if api not in _COUNTED_BY_TENSORFLOW_SERVING:
            return observe
        runtime = _RUNTIMES.get(platform, platform)
        observe_micros = self._runtime_latency.cell(name, api, runtime).observe

        def observe_both(seconds: float) -> None:
            observe(seconds)
            observe_micros(seconds * 1e6)

        return observe_both

    def forget(self, servable_id: ServableId) -> None:
        """Drop what is kept for this version alone, which is gone."""
        of_version = {"model_name": servable_id.name, "version": str(servable_id.version)}
        self._seconds.forget(**of_version)
        self._in_progress.forget(**of_version)


class _MeasuredServable:
    """Another servable whose runs are told of; whatever else it offers is offered as it is."""

    def __init__(
        self,
        servable: Servable,
        in_progress: Callable[[float], None],
        answered: Callable[[str, str, float], None],
    ) -> None:
        self._servable = servable
        self._in_progress = in_progress
        self._answered = answered

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

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
            took = time.perf_counter() - began
            self._in_progress(-1)
            code = result.code.name if isinstance(result, ServingError) else _OK
            self._answered(options.api, code, took)
            done(result)

        self._servable.run(feeds, fetches, options, measured)

    def close(self) -> None:
        self._servable.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._servable, name)

    def __repr__(self) -> str:
        return f"<measured {self._servable!r}>"
