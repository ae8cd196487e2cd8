"""Logs a sample of one model's calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from serving.apis.tensorflow_serving.prediction_log import (
    encode_log_metadata,
    encode_prediction_log,
)
from serving.core.clock import Clock
from serving.core.model_config import LoggingConfig
from serving.core.request_log import LoggedCall
from serving.request_logging.log_collectors import LogCollector
from serving.request_logging.log_writer import LogEntry
from serving.request_logging.request_log_options import RequestLogOptions

_BYTES_OF_A_CALL = 2048
"""About what a call takes that waits, besides its payloads."""


class RequestLogger:
    """Implements CallLogger: samples uniformly, and leaves the making of records to ``put``."""

    def __init__(
        self,
        config: LoggingConfig,
        options: RequestLogOptions,
        collector: LogCollector,
        put: Callable[[LogEntry], None],
        *,
        saved_model_tags: Sequence[str],
        clock: Clock,
    ) -> None:
        self._rate = sampling_rate(config, options)
        self._sampling = config.encoded_sampling
        self._dc = options.dc
        self._collector = collector
        self._put = put
        self._tags = saved_model_tags
        self._clock = clock

    def is_sampled(self) -> bool:
        return random.random() < self._rate

    def log(self, call: LoggedCall) -> None:
        record = partial(self._record, call, self._clock.time())
        size_bytes = call.size_bytes + _BYTES_OF_A_CALL
        self._put(LogEntry(call.servable_id.name, self._collector, record, size_bytes))

    def _record(self, call: LoggedCall, seconds: float) -> bytes:
        metadata = encode_log_metadata(call, self._sampling, self._tags, self._dc, seconds)
        return encode_prediction_log(call, metadata)


def sampling_rate(config: LoggingConfig, options: RequestLogOptions) -> float:
    """The share of calls that this server logs: by the first entry that means it, else for all.

    An entry without a data center or task index means any.
    """
    for task in config.task_sampling:
        if task.dc in ("", options.dc) and task.task_index in (None, options.task_index):
            return task.sampling_rate
    return config.sampling_rate
