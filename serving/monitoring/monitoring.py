"""Everything that is counted where metrics are published, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.batching.batch_listener import BatchFormed
from serving.core.call import UnaryHandler
from serving.core.clock import Clock
from serving.core.errors import Code
from serving.core.event_bus import EventBus
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.core.servable_state import ServableState
from serving.metrics.registry import Metrics
from serving.monitoring.access_log_metrics import sample_access_log
from serving.monitoring.batch_metrics import BatchMetrics, WaitingRows
from serving.monitoring.gpu_metrics import add_gpu_metrics
from serving.monitoring.http_metrics import App, HttpMetrics
from serving.monitoring.process_metrics import ProcessMetrics
from serving.monitoring.rpc_metrics import RpcMetrics
from serving.monitoring.run_metrics import RunMetrics
from serving.monitoring.version_metrics import VersionMetrics


class Monitoring:
    """What the parts of a server are given so that they are counted. Thread-safe."""

    def __init__(
        self, metrics: Metrics, clock: Clock, aspires_to: Callable[[ServableId], bool]
    ) -> None:
        """``aspires_to``: whether a version that failed is to be served."""
        self._metrics = metrics
        self._runs = RunMetrics(metrics)
        self._batches = BatchMetrics(metrics)
        self._rpcs = RpcMetrics(metrics)
        self._http = HttpMetrics(metrics)
        self._versions = VersionMetrics(metrics, clock, aspires_to)
        ProcessMetrics(metrics)
        add_gpu_metrics(metrics)

    def listen(self, bus: EventBus[ServableState]) -> None:
        """Follow the versions from now on."""
        bus.subscribe(self._versions.hear)

    def measured_servable(
        self, servable: Servable, servable_id: ServableId, path: str, platform: str
    ) -> Servable:
        """A version, loaded from this directory, whose runs are counted."""
        self._versions.loaded(servable_id, path, platform)
        return self._runs.measured(servable, servable_id, platform)

    def measured_handler(self, path: str, handler: UnaryHandler) -> UnaryHandler:
        """A method of gRPC, by its path, whose calls are counted."""
        return self._rpcs.measured(path, handler)

    def rpc_begun(self, path: str) -> Callable[[Code], None]:
        """A call of gRPC without such a handler has begun: what hears how it ends.

        ``path`` is empty for a method that there is not.
        """
        return self._rpcs.begun(path)

    def measured_app(self, app: App) -> App:
        """An ASGI app whose requests are counted."""
        return self._http.measured(app)

    def batch_formed(self, servable_id: ServableId, batch: BatchFormed) -> None:
        """A batch is about to run."""
        self._batches.formed(servable_id, batch)

    def sample_queues(self, waiting_rows: WaitingRows) -> None:
        """How many rows are queued for each version is asked when somebody wants to know."""
        self._batches.sample_queues(waiting_rows)

    def sample_access_log(self, lacking: Callable[[], Mapping[str, int]]) -> None:
        """How many calls the access log lacks, by reason, is asked when somebody wants to know."""
        sample_access_log(self._metrics, lacking)

    def forget(self, servable_id: ServableId) -> None:
        """Drop what was counted for a version that no process has any more; it may have come back
        to this one by the time that is known.
        """
        if self._versions.is_here(servable_id):
            return
        self._runs.forget(servable_id)
        self._batches.forget(servable_id)
