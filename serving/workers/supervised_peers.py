"""A worker's side of what the workers do together."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import cast

from serving.core.errors import (
    FailedPrecondition,
    Internal,
    ServingError,
    Unavailable,
    Unknown,
)
from serving.core.main_thread import result_of
from serving.core.model_config import ModelConfig
from serving.core.models import Models
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.families import Snapshot, lasting
from serving.metrics.registry import Metrics
from serving.peers import WhenResponsive
from serving.server_core import ServerCore
from serving.workers.channel import Answer, Channel
from serving.workers.messages import (
    Begin,
    Check,
    Combined,
    Count,
    CountOthers,
    Failed,
    Heard,
    Leaving,
    Left,
    Opened,
    Permission,
    Ping,
    Ready,
    Reload,
    ReloadAll,
    Settle,
)
from serving.workers.shared_models import SharedModels

log = logging.getLogger(__name__)

_SECONDS_TO_TELL = 5.0
_SECONDS_TO_COUNT = 5.0
_SECONDS_BETWEEN_QUESTIONS = 0.1
_DEFECT = Internal("Internal server error")


class SupervisedPeers:
    """The Peers of a worker's server, reached through the supervisor. Thread-safe.

    The channel closes when the supervisor ends, however it does; then this process is told to
    drain and end. (PR_SET_PDEATHSIG would do so on Linux alone, and already when the supervisor's
    thread ends that started this process.)
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._begun: SimpleQueue[Begin] = SimpleQueue()
        self._first: Begin | None = None
        self._core: ServerCore | None = None
        self._metrics: Metrics | None = None
        # The supervisor remembers what it was told last, so that has to be what was counted last.
        self._counting = threading.Lock()
        self._counted: Future[object] | None = None
        self._forget: Callable[[ServableId], None] = lambda _id: None
        self._when_responsive: WhenResponsive = lambda notify: notify()
        self._versions: dict[str, Sequence[ServableState]] = {}
        self._latest: dict[str, int] = {}
        # One thread, so that reloads are applied in the order in which they came.
        self._reloads = ThreadPoolExecutor(1, "reload")
        channel.start(self._hear, _drain_and_end)

    def await_begin(self) -> Begin:
        """The supervisor's first words."""
        self._first = self._begun.get()
        return self._first

    def failed(self, error: ServingError) -> None:
        """The server could not start, and this process is about to end."""
        concurrent.futures.wait([self._channel.ask(Failed(error))], timeout=_SECONDS_TO_TELL)

    def start(self, core: ServerCore) -> None:
        assert self._first is not None  # awaited before there was a server
        self._core = core
        core.bus.subscribe(lambda state: self._channel.tell(Heard(state)))
        try:
            core.start(self._first.configs)
        except Unknown as error:
            if not self._first.is_replacement:
                raise
            # Perhaps it failed in the others too: whether it may open is the supervisor's to say.
            log.error("%s", error)

    def join(self, core: ServerCore, metrics: Metrics, running: ExitStack) -> Models:
        self._metrics = metrics
        running.callback(self._leave, metrics)
        wanted: Sequence[ModelConfig] = []
        applied: Sequence[ModelConfig] | None = []
        while (answer := result_of(self._channel.ask(Ready()))) is not Permission.OPEN:
            if isinstance(answer, ServingError):
                raise answer
            if isinstance(answer, Reload):
                wanted, applied = answer.configs, None
            else:
                time.sleep(_SECONDS_BETWEEN_QUESTIONS)
            # Again, as a version that a label names may have turned up meanwhile.
            while (possible := _with_possible_labels(core, wanted)) != applied:
                _catch_up(core, possible)
                applied = possible
        if applied != wanted:
            log.warning("labels are left out whose versions are not available any more")
        return SharedModels(core, self._latest, self._versions, self._reload_all)

    def opened(self, when_responsive: WhenResponsive) -> None:
        self._when_responsive = when_responsive
        self._channel.tell(Opened())

    def is_everywhere(self, servable_id: ServableId) -> bool:
        return any(
            state.id == servable_id and state.state is ManagerState.AVAILABLE
            for state in self._versions.get(servable_id.name, ())
        )

    def count_everywhere(self, count: Callable[[], Snapshot]) -> Sequence[Snapshot]:
        """Raises Unavailable while the supervisor is silent, which has one question to answer."""
        with self._counting:
            ours = count()
            question = self._counted
            if question is None or question.done():
                question = self._counted = self._channel.ask(CountOthers(ours))
        concurrent.futures.wait([question], timeout=_SECONDS_TO_COUNT)
        others = question.result() if question.done() else None
        if others is None or isinstance(others, ServingError):
            raise Unavailable("what the other processes have counted is not known")
        return [ours, *cast("Sequence[Snapshot]", others)]

    def when_gone(self, forget: Callable[[ServableId], None]) -> None:
        self._forget = forget

    def stopped(self, metrics: Metrics) -> None:
        """Returns when the supervisor has it: this process is about to end."""
        told = self._channel.ask(Left(lasting(metrics.snapshot())))
        concurrent.futures.wait([told], timeout=_SECONDS_TO_TELL)

    def _leave(self, metrics: Metrics) -> None:
        with self._counting:
            self._channel.tell(Leaving(lasting(metrics.snapshot())))

    def _reload_all(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        def answered(question: Future[object]) -> None:
            outcome = cast("ServingError | None", question.result())
            # What follows may ask the other processes, whose answers this thread brings.
            self._reloads.submit(done, outcome)

        self._channel.ask(ReloadAll(configs)).add_done_callback(answered)

    def _hear(self, message: object, answer: Answer) -> None:
        match message:
            case Begin():
                self._begun.put(message)
            case Combined(name, versions, latest):
                self._take_states(name, versions, latest)
            case Check(configs):
                self._reloads.submit(self._check, configs, answer)
            case Reload(configs):
                self._reloads.submit(self._reload, configs, answer)
            case Settle():
                answer(None)
            case Ping():
                self._when_responsive(partial(answer, None))
            case Count():
                with self._counting:
                    answer(self._metrics.snapshot() if self._metrics else {})

    def _take_states(
        self, name: str, versions: Sequence[ServableState], latest: int | None
    ) -> None:
        gone = _gone(self._versions.get(name, ()), versions)
        self._versions[name] = versions
        for each in gone:
            self._forget(each)
        if latest is None:
            self._latest.pop(name, None)
        else:
            self._latest[name] = latest
        if self._core:
            self._core.reconsider(name)

    def _check(self, configs: Sequence[ModelConfig], answer: Answer) -> None:
        assert self._core is not None  # asked of servers that are ready only
        try:
            self._core.check(configs)
        except ServingError as error:
            answer(error)
        except Exception:
            log.exception("a configuration can not be checked")
            answer(_DEFECT)
        else:
            answer(None)

    def _reload(self, configs: Sequence[ModelConfig], answer: Answer) -> None:
        assert self._core is not None  # as above
        try:
            self._core.begin_reload(configs, answer)
        except ServingError as error:
            answer(error)
            log.error("can not serve what the other workers do, and ends: %s", error)
            _drain_and_end()
        except Exception:
            answer(_DEFECT)
            log.exception("can not serve what the other workers do, and ends")
            _drain_and_end()


def _gone(before: Iterable[ServableState], now: Iterable[ServableState]) -> set[ServableId]:
    """What has ended everywhere since."""
    living = {state.id for state in now if state.state is not ManagerState.END}
    known = {state.id for state in (*before, *now)}
    return known - living - {state.id for state in before if state.state is ManagerState.END}


def _with_possible_labels(
    core: ServerCore, configs: Sequence[ModelConfig]
) -> Sequence[ModelConfig]:
    """Without labels of versions that have gone since: the first time, they would be refused."""
    return [
        replace(
            config,
            version_labels={
                label: version
                for label, version in config.version_labels.items()
                if _is_possible(core, replace(config, version_labels={label: version}))
            },
        )
        for config in configs
    ]


def _is_possible(core: ServerCore, config: ModelConfig) -> bool:
    try:
        core.check([config])
    except FailedPrecondition:
        return False
    return True


def _catch_up(core: ServerCore, configs: Sequence[ModelConfig]) -> None:
    """Take the configuration in force, of which models may fail here as in the others."""
    outcome: Future[object] = Future()
    core.begin_reload(configs, outcome.set_result)
    if error := result_of(outcome):
        log.error("%s", error)


def _drain_and_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
