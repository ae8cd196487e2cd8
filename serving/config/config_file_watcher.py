"""Follows the model config file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from serving.config.file_watcher import FileWatcher
from serving.config.model_config import configured_models
from serving.config.options import ServerOptions
from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.core.model_config import ModelConfig

log = logging.getLogger(__name__)

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

    watcher = FileWatcher(
        "model config file",
        lambda: list(configured_models(options)),
        # Without waiting, so that the next change of the file is seen while models load.
        lambda configs: begin_reload(configs, done),
        in_force=lambda: list(in_force()),
        interval_seconds=interval,
        clock=clock,
    )
    watcher.start()
    running.callback(watcher.stop)
