"""The request logs of a server, and how they follow its configuration."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from serving.core.clock import Clock
from serving.core.errors import Code, FailedPrecondition, InvalidArgument
from serving.core.model_config import LoggingConfig, ModelConfig
from serving.core.request_log import CallLogger, CallLoggers
from serving.metrics.registry import Metrics
from serving.metrics.request_log_metrics import request_log_count
from serving.request_logging.log_collectors import LOG_COLLECTORS, LogCollector
from serving.request_logging.log_writer import LogWriter
from serving.request_logging.request_log_options import RequestLogOptions
from serving.request_logging.request_logger import RequestLogger, sampling_rate
from serving.request_logging.rotating_files import check_writable

log = logging.getLogger(__name__)


class _Place(NamedTuple):
    """Models that name the same one share its files."""

    collector_type: str
    filename_prefix: str


_MAY_BE_SAVED_MODELS = ("tensorflow", "")
"""Platforms whose calls are logged with tags; where none is named, the files tell which it is."""


class ServerRequestLogger:
    """Keeps :attr:`loggers` as the configuration in force has them.

    Its methods are called one at a time; the loggers may be used from any thread meanwhile.
    """

    def __init__(
        self,
        options: RequestLogOptions,
        metrics: Metrics,
        clock: Clock,
        saved_model_tags: Sequence[str] = (),
    ) -> None:
        """``saved_model_tags`` are those that SavedModels are loaded with."""
        self.loggers = CallLoggers()
        self._options = options
        self._clock = clock
        self._tags = tuple(saved_model_tags)
        counter = request_log_count(metrics)

        def count(model_name: str, code: Code) -> None:
            counter.increment(model_name, code.name)

        self._writer = LogWriter(clock, count)
        # All that the configuration in force names, also of logs that sample nothing; None before
        # the first one, where others have had it.
        self._places: Collection[_Place] | None = None if options.is_replacement else ()
        self._collectors: dict[_Place, LogCollector] = {}
        self._loggers: dict[str, tuple[LoggingConfig, CallLogger]] = {}

    def check(self, configs: Sequence[ModelConfig]) -> None:
        """Raise InvalidArgument or FailedPrecondition for a log that can not be, naming its model.

        A directory that is missing is made. One that can not be written to is no reason to refuse
        a log that is there already: calls go on without it.
        """
        for config in configs:
            if config.logging is not None:
                _check(config.name, config.logging)
                self._check_writable(config.name, config.logging)

    def apply(self, configs: Sequence[ModelConfig]) -> None:
        """Log as these configurations, which were checked, say; what they leave as it was goes on.

        Calls in progress may still be logged as before.
        """
        self._places = {_place(config.logging) for config in configs if config.logging}
        loggers: dict[str, tuple[LoggingConfig, CallLogger]] = {}
        for config in configs:
            asked = config.logging
            if asked is None or not sampling_rate(asked, self._options):
                continue
            before = self._loggers.get(config.name)
            if before is None or before[0] != asked:
                before = asked, self._make(asked, config.platform)
            loggers[config.name] = before
        if loggers:
            self._writer.start()
        in_use = {_place(config) for config, _ in loggers.values()}
        self._collectors = {
            place: collector for place, collector in self._collectors.items() if place in in_use
        }
        self._writer.keep(frozenset(self._collectors.values()))
        self._loggers = loggers
        self.loggers.by_model = {name: logger for name, (_, logger) in loggers.items()}

    def stop(self, within_seconds: float) -> None:
        """Log nothing more, and write what waits, if that takes no longer than that."""
        self.loggers.by_model = {}
        self._writer.stop(within_seconds)

    def _make(self, config: LoggingConfig, platform: str) -> CallLogger:
        place = _place(config)
        if place not in self._collectors:
            make = LOG_COLLECTORS[place.collector_type]
            self._collectors[place] = make(place.filename_prefix, self._options, self._clock)
        return RequestLogger(
            config,
            self._options,
            self._collectors[place],
            self._writer.put,
            saved_model_tags=self._tags if platform in _MAY_BE_SAVED_MODELS else (),
            clock=self._clock,
        )

    def _check_writable(self, name: str, config: LoggingConfig) -> None:
        try:
            check_writable(config.filename_prefix)
        except FailedPrecondition as error:
            message = (
                f"Model {name}: logging_config.log_collector_config.filename_prefix: "
                f"{error.message}"
            )
            if self._places is not None and _place(config) not in self._places:
                raise FailedPrecondition(message) from None
            log.error("%s", message)


def _place(config: LoggingConfig) -> _Place:
    return _Place(config.collector_type, config.filename_prefix)


def _check(name: str, config: LoggingConfig) -> None:
    where = f"Model {name}: logging_config"
    if config.collector_type not in LOG_COLLECTORS:
        raise InvalidArgument(
            f"{where}.log_collector_config.type must be one of {', '.join(LOG_COLLECTORS)}, "
            f"not '{config.collector_type}'"
        )
    prefix = config.filename_prefix
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise InvalidArgument(
            f"{where}.log_collector_config.filename_prefix must be an absolute path that ends "
            f"with the beginning of file names, not '{prefix}'"
        )
    for field, rate in _rates(config):
        if not 0 <= rate <= 1:
            raise InvalidArgument(
                f"{where}.sampling_config.{field} must be between 0 and 1, not {rate:g}"
            )


def _rates(config: LoggingConfig) -> Iterator[tuple[str, float]]:
    yield "sampling_rate", config.sampling_rate
    for index, task in enumerate(config.task_sampling):
        yield f"per_task_sampling_configs[{index}].sampling_rate", task.sampling_rate
