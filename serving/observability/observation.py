"""Puts those who listen to calls together, and around what calls go through."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import ExitStack

from serving.core.call_observer import CallObserver
from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition
from serving.core.extras import remedy
from serving.core.models import Models
from serving.core.observed_call import CallListener
from serving.core.servable import Servable
from serving.observability.access_log import AccessLog
from serving.observability.context_executor import ContextExecutor
from serving.observability.observability_options import ObservabilityOptions, TracingOptions
from serving.observability.observed_models import ObservedModels, ObservedServable


class Observation:
    """How the calls of one server are observed.

    Where nothing asks for it, ``observer`` is None and everything stays as it is: that costs no
    call anything.
    """

    def __init__(self, options: ObservabilityOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self.observer: CallObserver | None = None
        self._access_log: AccessLog | None = None

    def start(self, running: ExitStack) -> None:
        """Begin to listen, until ``running`` closes.

        Raises InvalidArgument for an access log that can not be written, FailedPrecondition where
        traces need what is not installed.
        """
        options = self._options
        listeners: list[CallListener] = []
        if options.tracing is not None:
            listeners.append(_start_tracing(options.tracing, running))
        as_json = options.log_format == "json"
        if options.access_log:
            access_log = AccessLog(options.access_log, as_json=as_json, worker=options.worker)
            access_log.start()
            self._access_log = access_log
            running.callback(access_log.stop)
            listeners.append(access_log)
        # Structured lines name their request also where nobody listens.
        if listeners or as_json:
            returns = bool(listeners)
            self.observer = CallObserver(listeners, self._clock, returns_request_ids=returns)

    def calls_not_logged(self) -> Mapping[str, int]:
        """How many calls the access log lacks, by reason; empty where there is no such log."""
        access_log = self._access_log
        if access_log is None:
            return {}
        return {"too_many": access_log.dropped, "not_written": access_log.lost}

    def models(self, models: Models) -> Models:
        """The models as calls are to see them."""
        return models if self.observer is None else ObservedModels(models)

    def servable(self, servable: Servable) -> Servable:
        """A servable as calls are to run it."""
        return servable if self.observer is None else ObservedServable(servable)

    def threads(self, executor: Executor) -> Executor:
        """The threads that work for calls."""
        return executor if self.observer is None else ContextExecutor(executor)


def _start_tracing(options: TracingOptions, running: ExitStack) -> CallListener:
    # The packages of OpenTelemetry are an extra.
    try:
        from serving.observability.tracing import start_tracing  # noqa: PLC0415  # see above
    except ModuleNotFoundError:
        raise FailedPrecondition(
            f"tracing_endpoint needs opentelemetry, which is not installed: {remedy('otel')}"
        ) from None
    tracing = start_tracing(options)
    running.callback(tracing.stop)
    return tracing
