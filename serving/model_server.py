"""Puts the server together, starts it and stops it, in one visible order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

from serving.config.configured_platforms import configured_platforms
from serving.config.options import ServerOptions
from serving.core.clock import Clock, SystemClock
from serving.core.errors import Code
from serving.core.servable_id import ServableId
from serving.frontends import WAITING_METHODS, Frontends
from serving.loaders.simple_loader import WarmUp as LoaderWarmUp
from serving.memory import MemoryReturn
from serving.metrics.registry import Metrics
from serving.metrics.warm_up_metrics import WarmUpMetrics
from serving.monitoring.monitoring import Monitoring
from serving.observability.observation import Observation
from serving.peers import Alone, Peers
from serving.ports import Ports
from serving.request_logging.server_request_logger import ServerRequestLogger
from serving.server_core import ServerCore
from serving.warm_up import WarmUp, WarmUpEnd
from serving.wrapped_servables import WrappedServables

_NUM_CONTROL_THREADS = 4
"""How many reload calls may wait for models at the same time."""

_LEAST_LOG_SECONDS = 1.0
"""What the request log gets to write what waits, whatever of the grace period calls have used."""

MakePorts = Callable[[ServerOptions, Clock, Observation, Monitoring | None], Ports]


class ModelServer:
    """One server: a core with its models, and the transports that let clients reach it.

    ``with ModelServer(options) as server:`` starts and stops it. The ports open only when every
    configured model has loaded, failed or turned out to be missing.
    """

    def __init__(
        self,
        options: ServerOptions,
        peers: Peers | None = None,
        make_ports: MakePorts = Ports,
    ) -> None:
        """``peers``: the other processes that serve on the ports; None where there are none.
        ``make_ports`` makes what has clients reach the server.
        """
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
        self._request_logger = ServerRequestLogger(
            options.request_log, self._metrics, self._clock, options.tensorflow.tags
        )
        self._platforms = configured_platforms(options)
        self._wrapped = WrappedServables(
            options, self._clock, self._observation, self._monitoring, self._platform_of
        )
        self._frontends = Frontends(
            options,
            self._clock,
            metrics=self._metrics,
            loggers=self._request_logger.loggers,
            observation=self._observation,
            monitoring=self._monitoring,
            tell_of_priorities=self._wrapped.tell_of_priorities,
        )
        self._ports = make_ports(options, self._clock, self._observation, self._monitoring)
        self.core = self._make_core()
        if self._monitoring:
            self._monitoring.listen(self.core.bus)
            self._monitoring.sample_access_log(self._observation.calls_not_logged)
        self._peers.when_gone(self._forget)

    @property
    def grpc_port(self) -> int | None:
        """The TCP port of gRPC; None when it listens on a unix socket alone, or not yet."""
        return self._ports.grpc

    @property
    def rest_port(self) -> int | None:
        """The port of REST; None when there is none, or not yet."""
        return self._ports.rest

    def start(self) -> None:
        """Load the models, then open the ports. Raises ServingError when it cannot serve."""
        with ExitStack() as starting:
            # Before the models, which may take minutes to load.
            self._ports.take_certificate()
            self._observation.start(starting)
            run = self._threads(self._options.grpc.max_threads, "run", starting)
            memory_return = MemoryReturn(self.core.bus, self._clock)
            starting.callback(memory_return.stop)
            memory_return.start()
            starting.callback(self._peers.stopped, self._metrics)
            starting.callback(self.core.stop)
            starting.callback(self._stop_request_log)
            self._wrapped.start(run, starting, self._ports.grace_left)
            self._peers.start(self.core)
            models = self._peers.join(self.core, self._metrics, starting)
            models = self._observation.models(models)
            # Closed after the transports, whose calls in progress need them.
            control = self._threads(_NUM_CONTROL_THREADS, "control", starting)
            rest = self._threads(self._options.rest_num_threads, "rest", starting)
            pages = _thread_pool(1, "monitoring", starting)
            starting.callback(self._ports.close)
            self._ports.watch_certificate(starting)
            methods = self._frontends.grpc_methods(models, run, control)
            self._ports.open_grpc(methods, WAITING_METHODS, self.core, starting)
            self._ports.open_http(
                self._frontends.http_application(models, rest, pages, self._why_not_ready)
            )
            self._peers.opened(self._ports.when_responsive)
            self._running = starting.pop_all()

    def stop(self) -> None:
        """Say that the server goes, let calls in progress end in time, then unload everything."""
        self._ports.announce_end()
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

    def _make_core(self) -> ServerCore:
        options = self._options
        return ServerCore(
            options.lifecycle,
            self._platforms,
            clock=self._clock,
            wrap=self._wrapped.wrap,
            warm_up=self._warm_up(),
            instances_of=options.instances.options_for,
            on_reload=self._wrapped.reload,
            follower=self._request_logger,
            is_everywhere=self._peers.is_everywhere,
        )

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

    def _platform_of(self, name: str, path: str) -> str:
        """Of a model that was dropped while it loaded, nobody asks any more."""
        configs = {config.name: config for config in self.core.configs()}
        config = configs.get(name)
        return self._platforms.name_of(config.platform if config else "tensorflow", path)

    def _why_not_ready(self) -> str:
        """Empty where clients should be sent here."""
        if self._ports.is_ending:
            return "the server is shutting down"
        return "" if self.core.can_serve() else "no model can be asked for"

    def _stop_request_log(self) -> None:
        """It gets what calls left of the grace period, and a second at least."""
        self._request_logger.stop(max(_LEAST_LOG_SECONDS, self._ports.grace_left()))

    def _threads(self, number: int, name: str, running: ExitStack) -> Executor:
        """Threads that work for calls, until ``running`` closes."""
        return self._observation.threads(_thread_pool(number, name, running))


def _thread_pool(num_threads: int, name: str, running: ExitStack) -> Executor:
    """A pool that takes no more work, and forgets what waits in it, once ``running`` closes."""
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
    running.callback(pool.shutdown, wait=False, cancel_futures=True)
    return pool
