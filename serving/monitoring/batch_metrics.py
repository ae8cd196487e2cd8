"""Counts batches: how full they are, and how long requests wait for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.batching.batch_listener import BatchFormed
from serving.core.servable_id import ServableId
from serving.metrics.buckets import exponential
from serving.metrics.families import Cell, Cells, Description, Kind
from serving.metrics.registry import Metrics
from serving.monitoring.bounds import CALL_SECONDS

_PREFIX = "/tensorflow/serving/batching_session/"
_ROWS = exponential(1, 2, 14)
_WAIT_MICROS = exponential(100, 1.2, 52)
_TENTHS = tuple(tenths / 10 for tenths in range(1, 11))
_LABELS = ("model_name", "version")
_WAITING = Description(
    "model_server_batch_queue_rows",
    "Rows of requests that wait for a batch.",
    Kind.GAUGE,
    _LABELS,
)

WaitingRows = Callable[[], Mapping[ServableId, int]]
"""How many rows are queued for each version."""


class BatchMetrics:
    """Listens to the batches of all versions, under TensorFlow Serving's names and under those of
    this server. Thread-safe.

    A request that is spread over several batches counts in each with its part.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._queues: list[WaitingRows] = []
        metrics.sampled([_WAITING], self._sample)
        self._queuing_latency = metrics.histogram(
            f"{_PREFIX}queuing_latency",
            "How long requests waited for a batch, in microseconds.",
            ("thread_pool_name",),
            _WAIT_MICROS,
        ).cell("")
        self._run_count = metrics.counter(
            f"{_PREFIX}wrapped_run_count", "The total number of batches run.", ()
        ).cell()
        self._padding = metrics.histogram(
            f"{_PREFIX}padding_size",
            "Rows that fill a batch up to an allowed size.",
            ("execution_batch_size",),
            _ROWS,
        )
        self._input_size = metrics.histogram(
            f"{_PREFIX}input_batch_size", "Rows of a request, once for each input.", (), _ROWS
        ).cell()
        self._processed_size = metrics.histogram(
            f"{_PREFIX}processed_batch_size",
            "Rows of a batch, with those that fill it up.",
            (),
            _ROWS,
        ).cell()
        self._wait = metrics.histogram(
            "model_server_batch_queue_duration_seconds",
            "How long requests waited for a batch.",
            _LABELS,
            CALL_SECONDS,
        )
        self._fill = metrics.histogram(
            "model_server_batch_fill_ratio",
            "Rows of a batch, without those that fill it up, of as many as it could have.",
            _LABELS,
            _TENTHS,
        )

    def formed(self, servable_id: ServableId, batch: BatchFormed) -> None:
        """A batch of this version is about to run."""
        version = (servable_id.name, str(servable_id.version))
        wait = self._wait.cell(*version)
        for seconds, rows in zip(batch.waits, batch.rows, strict=True):
            self._queuing_latency.observe(seconds * 1e6)
            wait.observe(seconds)
            for _ in range(batch.num_inputs):
                self._input_size.observe(rows)
        rows = sum(batch.rows)
        self._run_count.add()
        self._padding.observe(batch.size - rows, str(batch.size))
        self._processed_size.observe(batch.size)
        self._fill.observe(rows / batch.most_rows, *version)

    def sample_queues(self, waiting_rows: WaitingRows) -> None:
        """Have the lengths of these queues asked for, too, whenever somebody wants to know them."""
        self._queues.append(waiting_rows)

    def _sample(self) -> dict[str, Cells]:
        cells: dict[tuple[str, ...], Cell] = {}
        for waiting_rows in list(self._queues):
            for each, rows in waiting_rows().items():
                cells[each.name, str(each.version)] = rows
        return {_WAITING.name: cells}

    def forget(self, servable_id: ServableId) -> None:
        """Drop what is kept for this version alone, which is gone."""
        of_version = {"model_name": servable_id.name, "version": str(servable_id.version)}
        self._wait.forget(**of_version)
        self._fill.forget(**of_version)
