"""What clients may ask of a server: the methods of gRPC, and the application on the REST port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from importlib.util import find_spec

from serving.apis.monitoring.page import MetricsPage
from serving.apis.profiler.profiler_service import MONITOR, PROFILE, ProfilerService
from serving.apis.tensorflow_serving.model_service import RELOAD, ModelService
from serving.apis.tensorflow_serving.prediction_service import (
    PredictionOptions,
    PredictionService,
)
from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.config.options import ServerOptions
from serving.core.call import UnaryHandler
from serving.core.clock import Clock
from serving.core.errors import Unimplemented
from serving.core.models import Models
from serving.core.profiler import Profiler
from serving.core.request_log import CallLoggers
from serving.metrics.registry import Metrics
from serving.monitoring.monitoring import Monitoring
from serving.observability.observation import Observation
from serving.transport.http_engine import AsgiApp
from serving.transport.http_health import health_apps
from serving.transport.http_routes import routed
from serving.transport.observed_app import ObservedApp

WAITING_METHODS = frozenset({RELOAD, PROFILE, MONITOR})
"""The methods of gRPC that wait for something else than a model's answer, perhaps for long."""


class Frontends:
    """The APIs that the options ask for, with what counts and logs their calls."""

    def __init__(
        self,
        options: ServerOptions,
        clock: Clock,
        *,
        metrics: Metrics,
        loggers: CallLoggers,
        observation: Observation,
        monitoring: Monitoring | None,
        tell_of_priorities: Callable[[Callable[[bool], None]], None],
    ) -> None:
        """``tell_of_priorities`` has an API hear whether to look at the priorities of calls."""
        self._options = options
        self._clock = clock
        self._metrics = metrics
        self._loggers = loggers
        self._observation = observation
        self._monitoring = monitoring
        self._tell_of_priorities = tell_of_priorities

    def grpc_methods(
        self, models: Models, run_threads: Executor, control_threads: Executor
    ) -> Mapping[str, UnaryHandler]:
        """All that gRPC answers, by the paths of its methods. ``control_threads`` begin reloads."""
        prediction = PredictionService(
            models,
            self._metrics,
            PredictionOptions(
                check_method_name=self._options.enable_signature_method_name_check,
                tensor_content=self._options.enable_serialization_as_tensor_content,
            ),
            self._loggers,
        )
        self._tell_of_priorities(prediction.honor_priorities)
        model = ModelService(models, self._metrics, control_threads)
        methods = {**prediction.methods(), **model.methods()}
        if self._options.session_service:
            # Its messages come with TensorFlow alone.
            from serving.apis.tensorflow_serving.session_service import (  # noqa: PLC0415
                SessionService,
            )

            methods.update(SessionService(models, run_threads, self._clock).methods())
        if self._options.profiler:
            methods.update(ProfilerService(self._profiler, self._clock).methods())
        return methods

    def http_application(
        self,
        models: Models,
        rest_threads: Executor,
        page_threads: Executor,
        why_not_ready: Callable[[], str],
    ) -> AsgiApp:
        """All that answers on the REST port. ``page_threads`` gather the page of metrics;
        ``why_not_ready`` is empty where clients should be sent here.
        """
        rest = self._rest_api(models, rest_threads)
        apps = dict(health_apps(why_not_ready))
        if options := self._options.monitoring:
            apps[options.path] = MetricsPage(options.path, self._metrics, page_threads)
        observer = self._observation.observer
        app = routed(apps, otherwise=rest if observer is None else ObservedApp(rest, observer))
        return self._monitoring.measured_app(app) if self._monitoring else app

    def _rest_api(self, models: Models, threads: Executor) -> RestApi:
        rest = RestApi(
            models,
            executor=threads,
            options=RestOptions(
                timeout_seconds=self._options.rest_timeout_seconds,
                cors=self._options.rest_enable_cors,
                check_method_name=self._options.enable_signature_method_name_check,
                max_body_bytes=self._options.rest_max_body_bytes,
                max_total_body_bytes=self._options.rest_max_total_body_bytes,
            ),
            metrics=self._metrics,
            loggers=self._loggers,
            clock=self._clock,
        )
        self._tell_of_priorities(rest.honor_priorities)
        return rest

    def _profiler(self) -> Profiler:
        """Imported only when somebody wants to know: few servers are ever profiled."""
        if not find_spec("tensorflow"):
            raise Unimplemented("profiling needs tensorflow, which is not installed")
        from serving.loaders.tensorflow_profiler import TensorFlowProfiler  # noqa: PLC0415  # see above

        return TensorFlowProfiler(self._clock)
