"""Applies a model config file when it says something new, and only once it stands still."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from serving.config.model_config import configured_models
from serving.config.options import ServerOptions
from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.core.model_config import ModelConfig
from serving.core.periodic import PeriodicThread

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 1.0
"""How long a changed file must say the same: half of a YAML list is a shorter list."""


BeginReload = Callable[[Sequence[ModelConfig], Callable[[ServingError | None], None]], None]
"""Takes a configuration, and calls back when its models are available; see core.models.Models."""


def watch_config_file(
    options: ServerOptions,
    begin_reload: BeginReload,
    in_force: Callable[[], Sequence[ModelConfig]],
    clock: Clock,
    running: ExitStack,
) -> None:
    """Apply what changes in the config file until ``running`` closes, where options ask for it."""
    interval = options.lifecycle.model_config_file_poll_wait_seconds
    if interval <= 0 or not options.model_config_file:
        return

    def done(error: ServingError | None) -> None:
        if error:
            log.error("models of the config file: %s", error)

    watcher = ConfigFileWatcher(
        partial(configured_models, options),
        # Without waiting, so that the next change of the file is seen while models load.
        lambda configs: begin_reload(configs, done),
        in_force=in_force,
        interval_seconds=interval,
        clock=clock,
    )
    watcher.start()
    running.callback(watcher.stop)


class ConfigFileWatcher:
    """Reads the configuration again and again, and applies it where it is not the one in force.

    What can not be read or is refused is logged, once for each reason, and changes nothing; the
    next good file is applied. One that was refused is tried again at every look, as a label may
    have waited for its version to load. Looks happen on a thread of its own.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[ModelConfig]],
        apply: Callable[[Sequence[ModelConfig]], None],
        *,
        in_force: Callable[[], Sequence[ModelConfig]],
        interval_seconds: float,
        clock: Clock,
    ) -> None:
        """``read`` and ``apply`` raise ServingError; ``in_force`` tells what is served now."""
        self._read = read
        self._apply = apply
        self._in_force = in_force
        self._clock = clock
        self._stopping = threading.Event()
        self._problem = ""
        self._thread = PeriodicThread("config", self.look, interval_seconds, clock)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns once a look in progress has ended."""
        self._stopping.set()
        self._thread.stop()

    def look(self) -> None:
        """One look, which takes as long as the file keeps changing."""
        try:
            configs = self._settled()
            if self._is_new(configs):
                self._apply(configs)
            self._problem = ""
        except ServingError as error:
            if str(error) != self._problem:
                log.error("the model config file was not applied: %s", error)
            self._problem = str(error)

    def _settled(self) -> list[ModelConfig]:
        configs = list(self._read())
        while self._is_new(configs):
            self._clock.wait(self._stopping, _SETTLE_SECONDS)
            before, configs = configs, list(self._read())
            if configs == before:
                break
        return configs

    def _is_new(self, configs: list[ModelConfig]) -> bool:
        return configs != list(self._in_force()) and not self._stopping.is_set()
