"""What is put around every servable as it loads: where its runs go, and who counts them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack

from serving.batched_servables import BatchedServables
from serving.batching.direct_servable import DirectServable
from serving.batching.queued_runs import QueuedRuns
from serving.config.batching_parameters import Batching
from serving.config.options import ServerOptions
from serving.core.clock import Clock
from serving.core.servable import Servable, max_runs_of
from serving.core.servable_id import ServableId
from serving.monitoring.monitoring import Monitoring
from serving.observability.observation import Observation


class WrappedServables:
    """Puts batching, and whoever listens or counts, around servables. Thread-safe once started."""

    def __init__(
        self,
        options: ServerOptions,
        clock: Clock,
        observation: Observation,
        monitoring: Monitoring | None,
        platform_of: Callable[[str, str], str],
    ) -> None:
        """``platform_of`` tells a version's platform by its model's name and its path, for what is
        counted.
        """
        self._options = options
        self._clock = clock
        self._observation = observation
        self._monitoring = monitoring
        self._platform_of = platform_of
        self._batched = self._batched_servables(options.batching)
        self._batched_tflite = self._batched_servables(options.tflite_batching)
        self._run_threads: Executor | None = None

    def start(
        self, run_threads: Executor, running: ExitStack, grace_left: Callable[[], float]
    ) -> None:
        """Have threads until ``running`` closes: ``run_threads`` for runs that are not quick, and
        others for batches, as :meth:`BatchedServables.start` says. Called before anything loads.
        """
        self._run_threads = run_threads
        if self._batched:
            poll_seconds = self._options.lifecycle.model_config_file_poll_wait_seconds
            self._batched.start(poll_seconds, running, grace_left)
        if self._batched_tflite:
            self._batched_tflite.start(0, running, grace_left)

    def wrap(self, servable_id: ServableId, path: str, servable: Servable) -> Servable:
        """What serves: runs one by one, or batching where the options say how.

        Raises InvalidArgument for batching parameters that are wrong.
        """
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
            platform = self._platform_of(servable_id.name, path)
            serving = self._monitoring.measured_servable(serving, servable_id, path, platform)
        return serving

    def reload(self) -> None:
        """As :meth:`BatchedServables.reload`, where servables are batched."""
        if self._batched:
            self._batched.reload()

    def tell_of_priorities(self, honor: Callable[[bool], None]) -> None:
        """As :meth:`BatchedServables.tell_of_priorities`, where servables are batched."""
        if self._batched:
            self._batched.tell_of_priorities(honor)

    def _batched_servables(self, batching: Batching | None) -> BatchedServables | None:
        if batching is None:
            return None
        if self._monitoring is None:
            return BatchedServables(batching, self._clock)
        batched = BatchedServables(batching, self._clock, self._monitoring.batch_formed)
        self._monitoring.sample_queues(batched.waiting_rows)
        return batched
