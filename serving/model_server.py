"""Puts the server together, starts it and stops it, in one visible order."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any

from serving import memory
from serving.apis.monitoring.page import MetricsPage
from serving.apis.profiler.profiler_service import MONITOR, PROFILE, ProfilerService
from serving.apis.tensorflow_serving.model_service import RELOAD, ModelService
from serving.apis.tensorflow_serving.prediction_service import (
    PredictionOptions,
    PredictionService,
)
from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.batched_servables import BatchedServables
from serving.batching.direct_servable import DirectServable
from serving.batching.queued_runs import QueuedRuns
from serving.config.batching_parameters import Batching
from serving.config.options import ServerOptions
from serving.config.tls_files import watch_tls_files
from serving.core.call import UnaryHandler
from serving.core.clock import SystemClock
from serving.core.errors import Code, ServingError, Unimplemented
from serving.core.main_thread import next_of
from serving.core.models import Models
from serving.core.profiler import Profiler
from serving.core.servable import Servable, max_runs_of
from serving.core.servable_id import ServableId
from serving.loaders.platforms import Platforms
from serving.loaders.simple_loader import WarmUp as LoaderWarmUp
from serving.memory import MemoryReturn
from serving.metrics.registry import Metrics
from serving.metrics.warm_up_metrics import WarmUpMetrics
from serving.monitoring.monitoring import Monitoring
from serving.observability.observation import Observation
from serving.peers import Alone, Peers
from serving.request_logging.server_request_logger import ServerRequestLogger
from serving.server_core import ServerCore
from serving.transport.grpc_server import GrpcServer
from serving.transport.http_engine import AsgiApp
from serving.transport.http_health import health_apps
from serving.transport.http_routes import routed
from serving.transport.http_server import HttpServer
from serving.transport.observed_app import ObservedApp
from serving.transport.tls import Certificate
from serving.warm_up import WarmUp, WarmUpEnd

log = logging.getLogger(__name__)

_NUM_CONTROL_THREADS = 4
"""How many reload calls may wait for models at the same time."""

_LEAST_LOG_SECONDS = 1.0
"""What the request log gets to write what waits, whatever of the grace period calls have used."""

_UNLOAD_SECONDS = 5.0
"""How long loads and runs that nobody waits for any more may hold up the end of the process."""


class ModelServer:
    """One server: a core with its models, and the transports that let clients reach it.

    ``with ModelServer(options) as server:`` starts and stops it. The ports open only when every
    configured model has loaded, failed or turned out to be missing.
    """

    def __init__(self, options: ServerOptions, peers: Peers | None = None) -> None:
        """``peers``: the other processes that serve on the ports; None where there are none."""
        self._options = options
        self._clock = SystemClock()
        self._peers = peers or Alone(options, self._clock)
        self._metrics = Metrics(
            self._peers.count_everywhere, is_published=options.monitoring is not None
        )
        self._observation = Observation(options.observability, self._clock)
        self._monitoring = (
            Monitoring(self._metrics, self._clock, self._aspires_to)
            if self._metrics.is_published
            else None
        )
        self._warm_ups = WarmUpMetrics(self._metrics)
        self._running = ExitStack()
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None
        self._certificate: Certificate | None = None
        self._is_draining = False
        self._grace_ends = 0.0
        self._batched = self._batched_servables(options.batching)
        self._batched_tflite = self._batched_servables(options.tflite_batching)
        self._run_threads: Executor | None = None
        self._request_logger = ServerRequestLogger(
            options.request_log, self._metrics, self._clock, options.tensorflow.tags
        )
        self.core = ServerCore(
            options.lifecycle,
            Platforms(
                {"tensorflow": options.tensorflow, "tflite": options.tflite},
                added=options.added_platforms,
                prefer_tflite=options.tflite.preferred,
            ),
            clock=self._clock,
            wrap=self._wrap,
            warm_up=self._warm_up(),
            instances_of=options.instances.options_for,
            on_reload=self._batched.reload if self._batched else None,
            follower=self._request_logger,
            is_everywhere=self._peers.is_everywhere,
        )
        if self._monitoring:
            self._monitoring.listen(self.core.bus)
        self._peers.when_gone(self._forget)

    @property
    def grpc_port(self) -> int | None:
        """The TCP port of gRPC; None when it listens on a unix socket alone, or not yet."""
        return self._grpc.port if self._grpc else None

    @property
    def rest_port(self) -> int | None:
        """The port of REST; None when there is none, or not yet."""
        return self._http.port if self._http else None

    def start(self) -> None:
        """Load the models, then open the ports. Raises ServingError when it cannot serve."""
        with ExitStack() as starting:
            # Before the models, which may take minutes to load.
            self._certificate = Certificate(self._options.tls) if self._options.tls else None
            self._observation.start(starting)
            self._run_threads = self._threads(self._options.grpc.max_threads, "run", starting)
            memory_return = MemoryReturn(self.core.bus, self._clock)
            starting.callback(memory_return.stop)
            memory_return.start()
            starting.callback(self._peers.stopped, self._metrics)
            starting.callback(self.core.stop)
            starting.callback(self._stop_request_log)
            self._start_batch_threads(starting)
            self._peers.start(self.core)
            models = self._peers.join(self.core, self._metrics, starting)
            models = self._observation.models(models)
            # Closed after the transports, whose calls in progress need them.
            control = self._threads(_NUM_CONTROL_THREADS, "control", starting)
            rest = self._threads(self._options.rest_num_threads, "rest", starting)
            pages = _thread_pool(1, "monitoring", starting)
            starting.callback(self._close_transports)
            self._watch_certificate(starting)
            self._open_grpc(models, control, starting)
            self._open_http(self._http_application(models, rest, pages))
            self._peers.opened()
            self._running = starting.pop_all()

    def stop(self) -> None:
        """Let calls in progress end within the grace period, then unload everything."""
        self._running.close()

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_batch_threads(self, running: ExitStack) -> None:
        if self._batched:
            poll_seconds = self._options.lifecycle.model_config_file_poll_wait_seconds
            self._batched.start(poll_seconds, running)
        if self._batched_tflite:
            self._batched_tflite.start(0, running)

    def _batched_servables(self, batching: Batching | None) -> BatchedServables | None:
        if batching is None:
            return None
        if self._monitoring is None:
            return BatchedServables(batching, self._clock)
        batched = BatchedServables(batching, self._clock, self._monitoring.batch_formed)
        self._monitoring.sample_queues(batched.waiting_rows)
        return batched

    def _wrap(self, servable_id: ServableId, path: str, servable: Servable) -> Servable:
        """What serves: runs one by one, or batching where the options say how."""
        assert self._run_threads is not None  # models load only while the server runs
        serving: Servable = DirectServable(servable, self._run_threads, self._clock)
        batched = self._batched
        if max_runs := max_runs_of(servable):  # a model of TensorFlow Lite, so far
            serving = QueuedRuns(serving, max_runs)
            batched = batched or self._batched_tflite
        if batched:
            serving = batched.wrap(servable_id, path, servable, serving)
        serving = self._observation.servable(serving)
        if self._monitoring:
            configs = {config.name: config for config in self.core.configs()}
            config = configs.get(servable_id.name)
            platform = config.platform if config else "tensorflow"
            serving = self._monitoring.measured_servable(serving, servable_id, path, platform)
        return serving

    def _warm_up(self) -> LoaderWarmUp:
        """What runs before a version serves."""
        if not self._options.num_warm_up_iterations:
            return lambda _id, _path, _servable, _cancellation: None
        return WarmUp(
            self._clock,
            self._warmed_up,
            num_request_iterations=self._options.num_warm_up_iterations,
            check_method_name=self._options.enable_signature_method_name_check,
        )

    def _warmed_up(self, end: WarmUpEnd) -> None:
        version = (end.servable_id.name, str(end.servable_id.version))
        path = self.core.origin(end.servable_id, end.model_path)
        status = end.error.code.name if end.error else Code.OK.name
        self._warm_ups.ended(version, path, status, end.records, end.seconds)

    def _forget(self, servable_id: ServableId) -> None:
        """No process has this version any more."""
        self._warm_ups.forget((servable_id.name, str(servable_id.version)))
        if self._monitoring:
            self._monitoring.forget(servable_id)

    def _aspires_to(self, servable_id: ServableId) -> bool:
        return self.core.aspires_to(servable_id)

    def _watch_certificate(self, running: ExitStack) -> None:
        if self._certificate:
            files, interval = self._options.tls_files, self._options.tls_poll_wait_seconds
            watch_tls_files(files, self._certificate, interval, self._clock, running)

    def _open_grpc(self, models: Models, control: Executor, running: ExitStack) -> None:
        self._grpc = grpc = GrpcServer(
            self._options.grpc,
            self._grpc_methods(models, control),
            waiting=frozenset({RELOAD, PROFILE, MONITOR}),
            certificate=self._certificate,
            model_health=self.core,
            observer=self._observation.observer,
            wrap=self._monitoring.measured_handler if self._monitoring else None,
        )
        grpc.start()
        if self._options.grpc.health_service:
            running.enter_context(
                self.core.bus.subscribe(lambda state: grpc.model_changed(state.id.name))
            )
        grpc.set_serving(True)

    def _grpc_methods(self, models: Models, control: Executor) -> Mapping[str, UnaryHandler]:
        prediction = PredictionService(
            models,
            self._metrics,
            PredictionOptions(
                check_method_name=self._options.enable_signature_method_name_check,
                tensor_content=self._options.enable_serialization_as_tensor_content,
            ),
            self._request_logger.loggers,
        )
        if self._batched:
            self._batched.tell_of_priorities(prediction.honor_priorities)
        model = ModelService(models, self._metrics, control)
        methods = {**prediction.methods(), **model.methods(), **self._session_methods(models)}
        if self._options.profiler:
            methods.update(ProfilerService(self._profiler, self._clock).methods())
        return methods

    def _profiler(self) -> Profiler:
        """Imported only when somebody wants to know: few servers are ever profiled."""
        if not find_spec("tensorflow"):
            raise Unimplemented("profiling needs tensorflow, which is not installed")
        from serving.loaders.tensorflow_profiler import TensorFlowProfiler  # noqa: PLC0415  # see above

        return TensorFlowProfiler(self._clock)

    def _session_methods(self, models: Models) -> Mapping[str, UnaryHandler]:
        if not self._options.session_service:
            return {}
        # Its messages come with TensorFlow alone.
        from serving.apis.tensorflow_serving.session_service import SessionService  # noqa: PLC0415

        assert self._run_threads is not None  # made before
        return SessionService(models, self._run_threads, self._clock).methods()

    def _http_application(self, models: Models, threads: Executor, pages: Executor) -> AsgiApp:
        """All that answers on the REST port."""
        rest = RestApi(
            models,
            executor=threads,
            options=RestOptions(
                timeout_seconds=self._options.rest_timeout_seconds,
                cors=self._options.rest_enable_cors,
                check_method_name=self._options.enable_signature_method_name_check,
                max_body_bytes=self._options.rest_max_body_bytes,
            ),
            metrics=self._metrics,
            loggers=self._request_logger.loggers,
            clock=self._clock,
        )
        if self._batched:
            self._batched.tell_of_priorities(rest.honor_priorities)
        observer = self._observation.observer
        apps = dict(health_apps(self._why_not_ready))
        if options := self._options.monitoring:
            apps[options.path] = MetricsPage(options.path, self._metrics, pages)
        app = routed(apps, otherwise=rest if observer is None else ObservedApp(rest, observer))
        return self._monitoring.measured_app(app) if self._monitoring else app

    def _open_http(self, application: AsgiApp) -> None:
        """A REST port that cannot be had is logged: gRPC clients are served all the same."""
        if self._options.http is None:
            return
        certificate = self._certificate if self._options.rest_ssl else None
        http = HttpServer(self._options.http, application, certificate=certificate)
        try:
            http.start()
        except ServingError as error:
            log.error("Failed to start HTTP Server: %s", error.message)
        else:
            self._http = http

    def _why_not_ready(self) -> str:
        """Empty where clients should be sent here."""
        if self._is_draining:
            return "the server is shutting down"
        return "" if self.core.can_serve() else "no model can be asked for"

    def _stop_request_log(self) -> None:
        """It gets what calls left of the grace period, and a second at least."""
        left = self._grace_ends - self._clock.monotonic()
        self._request_logger.stop(max(_LEAST_LOG_SECONDS, left))

    def _threads(self, number: int, name: str, running: ExitStack) -> Executor:
        """Threads that work for calls, until ``running`` closes."""
        return self._observation.threads(_thread_pool(number, name, running))

    def _close_transports(self) -> None:
        """Both drain at the same time, so that one grace period is enough."""
        self._is_draining = True
        grace = self._options.shutdown_grace_seconds
        self._grace_ends = self._clock.monotonic() + grace
        stops: list[Callable[[float], None]] = []
        if self._grpc:
            self._grpc.set_serving(False)
            stops.append(self._grpc.stop)
        if self._http:
            stops.append(self._http.stop)
        threads = [threading.Thread(target=stop, args=(grace,), name="drain") for stop in stops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _thread_pool(num_threads: int, name: str, running: ExitStack) -> Executor:
    """A pool that takes no more work, and forgets what waits in it, once ``running`` closes."""
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
    running.callback(pool.shutdown, wait=False, cancel_futures=True)
    return pool


class _StopRequested(BaseException):
    """A signal came while the server was starting: nothing that runs then is worth finishing."""


def run(options: ServerOptions, peers: Peers | None = None) -> int:
    """Serve until SIGTERM or SIGINT; a second signal ends the process without waiting.

    A load, or a run of a model, that goes on after the grace period holds up the end of the
    process for five seconds at most. Returns the process's exit status. Raises ServingError when
    the server cannot start.
    """
    # Unlike an Event, a SimpleQueue may be put to by a handler that interrupts its reader.
    stop: SimpleQueue[None] = SimpleQueue()
    leave_in_seconds: SimpleQueue[float] = SimpleQueue()
    stopping = started = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            log.warning("second signal: ending without waiting")
            os._exit(128 + number)
        stopping = True
        log.info("%s: draining and stopping", signal.Signals(number).name)
        grace = options.shutdown_grace_seconds if started else 0
        leave_in_seconds.put(grace + _UNLOAD_SECONDS)
        stop.put(None)
        if not started:
            raise _StopRequested

    threading.Thread(target=_leave, args=(leave_in_seconds,), name="leave", daemon=True).start()
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, on_signal)
        memory.set_up()
        with ModelServer(options, peers):
            started = True
            next_of(stop)
    except _StopRequested:
        pass
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
    log.info("stopped")
    return 0


def _leave(in_seconds: SimpleQueue[float]) -> None:
    """End the process that long after it was told to stop, if it is still there.

    TensorFlow can not be made to give up a load, nor every run.
    """
    time.sleep(in_seconds.get())
    log.warning("a load or a run of a model does not end: leaving without it")
    os._exit(0)
