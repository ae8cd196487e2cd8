"""What a server does together with the other processes that serve on its ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from serving.config.config_file_watcher import watch_config_file
from serving.config.model_config import configured_models
from serving.config.options import ServerOptions
from serving.core.clock import Clock
from serving.core.models import Models
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.families import Snapshot
from serving.metrics.registry import Metrics
from serving.server_core import ServerCore

WhenResponsive = Callable[[Callable[[], None]], None]
"""Calls back once what serves clients has come round to it, which shows that it is not stuck."""


class Peers(Protocol):
    """The processes that serve on the same ports. Thread-safe.

    A server calls the first three once, in this order, as it starts, and ``stopped`` as the last.
    """

    def start(self, core: ServerCore) -> None:
        """Start the core with the models to serve; the peers hear of its versions from now on.

        Raises what :meth:`ServerCore.start` does.
        """

    def join(self, core: ServerCore, metrics: Metrics, running: ExitStack) -> Models:
        """The models as all of the processes serve them, for clients.

        Returns when the ports may open, and leaves the peers when ``running`` closes. Raises a
        ServingError when this process can not serve what the others do.
        """

    def opened(self, when_responsive: WhenResponsive) -> None:
        """The ports are open; ``when_responsive`` may be asked from now on."""

    def is_everywhere(self, servable_id: ServableId) -> bool:
        """Whether this version is available in all of the processes."""

    def count_everywhere(self, count: Callable[[], Snapshot]) -> Sequence[Snapshot]:
        """What each of the processes holds, this one by ``count``, and what those held that are
        gone; blocks until they have answered. Raises Unavailable where that can not be found out.
        """

    def when_gone(self, forget: Callable[[ServableId], None]) -> None:
        """Have this hear, before anything is loaded, of versions that no process has any more."""

    def stopped(self, metrics: Metrics) -> None:
        """The server has stopped, and counts nothing more."""


class Alone:
    """The peers of a server that has none: what is everybody's business is its own."""

    def __init__(self, options: ServerOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._forget: Callable[[ServableId], None] = lambda _id: None

    def start(self, core: ServerCore) -> None:
        core.bus.subscribe(self._hear)
        core.start(configured_models(self._options))

    def join(
        self,
        core: ServerCore,
        metrics: Metrics,  # noqa: ARG002  # nobody else asks for it
        running: ExitStack,
    ) -> Models:
        watch_config_file(self._options, core.begin_reload, core.configs, self._clock, running)
        return core

    def opened(self, when_responsive: WhenResponsive) -> None:
        """Nobody waits for it."""

    def is_everywhere(self, servable_id: ServableId) -> bool:  # noqa: ARG002  # here is everywhere
        return True

    def count_everywhere(self, count: Callable[[], Snapshot]) -> Sequence[Snapshot]:
        return [count()]

    def when_gone(self, forget: Callable[[ServableId], None]) -> None:
        self._forget = forget

    def stopped(self, metrics: Metrics) -> None:
        """Nobody remembers it."""

    def _hear(self, state: ServableState) -> None:
        if state.state is ManagerState.END:
            self._forget(state.id)
