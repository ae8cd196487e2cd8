"""The workers together: where versions stand in all of them, and what goes from one to all."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from serving.config.options import ServerOptions
from serving.core.clock import Clock
from serving.core.errors import DeadlineExceeded, ServingError, Unavailable
from serving.core.event_bus import EventBus
from serving.core.model_config import ModelConfig
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.managers.servable_state_monitor import ServableStateMonitor
from serving.metrics.families import Snapshot
from serving.workers.channel import Answer, Channel, when_all
from serving.workers.combined_states import Combine, combine, combine_furthest
from serving.workers.counts import Counts, Tally
from serving.workers.messages import (
    Begin,
    Check,
    Combined,
    CountOthers,
    Failed,
    Heard,
    Leaving,
    Left,
    Opened,
    Permission,
    Ready,
    Reload,
    ReloadAll,
    Settle,
)

log = logging.getLogger(__name__)

_SECONDS_TO_CHECK = 30.0
"""How long workers may take to say whether they would refuse a configuration."""

_SECONDS_TO_CATCH_UP = 30.0
"""How long a worker that is ready may lack a version that the others have had meanwhile."""


class Member:
    """One worker as the fleet sees it; what is in it is guarded by the fleet."""

    def __init__(self, name: str, channel: Channel, clock: Clock, max_ended: int) -> None:
        self.name = name
        self.channel = channel
        self.bus: EventBus[ServableState] = EventBus()
        self.states = ServableStateMonitor(self.bus, clock, max_ended=max_ended)
        self.configs: Sequence[ModelConfig] | None = None
        self.is_ready = False
        self.ready_since = 0.0
        self.is_serving = False
        self.tally = Tally(channel)

    def versions(self, name: str) -> dict[ServableId, ServableState]:
        """Where the versions of a model stand in this worker."""
        return {state.id: state for state in self.states.versions(name)}


class Fleet:
    """What the supervisor knows of its workers. Knows no processes, only channels. Thread-safe.

    A worker counts from the moment its ports may open until it leaves or its channel ends; what
    clients are told of versions is told of those that count, together. At the start no port opens
    before all workers are ready.
    """

    def __init__(
        self,
        options: ServerOptions,
        configs: Sequence[ModelConfig],
        *,
        log_level: str,
        clock: Clock,
        on_started: Callable[[ServingError | None], None],
    ) -> None:
        """``on_started`` hears that all ports are open, or why a worker could not start."""
        self._options = options
        self._log_level = log_level
        self._configs = configs
        self._clock = clock
        self._on_started = on_started
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self._control = ThreadPoolExecutor(1, "control")
        self._members: list[Member] = []
        self._counts = Counts()
        self._unopened = options.num_workers
        self._names: set[str] = set()
        self._combined: dict[str, dict[ServableId, ServableState]] = {}
        self._is_lazy = options.lifecycle.load_on_first_request
        self._combine_states: Combine = combine_furthest if self._is_lazy else combine

    def admit(self, name: str, channel: Channel) -> Member:
        """Tell a new worker what to serve, and listen to it from now on.

        A label may name only versions that have been loaded, so a worker that replaces another
        gets the labels when it is ready.
        """
        member = Member(name, channel, self._clock, self._options.lifecycle.max_ended_versions)
        with self._lock:
            self._members.append(member)
            configs = self._configs
            is_replacement = not self.is_starting
            if is_replacement:
                configs = [replace(config, version_labels={}) for config in configs]
            else:
                member.configs = configs
        observability = replace(self._options.observability, worker=name)
        request_log = replace(self._options.request_log, is_replacement=is_replacement)
        options = replace(self._options, observability=observability, request_log=request_log)
        channel.tell(Begin(options, configs, self._log_level, is_replacement))
        channel.start(
            lambda message, answer: self.hear(member, message, answer),
            lambda: self._end(member),
        )
        return member

    def hear(self, member: Member, message: object, answer: Answer) -> None:
        """What a worker says; see the messages."""
        match message:
            case Heard(state):
                self._hear_state(member, state)
            case Ready():
                answer(self._next_step(member))
            case Opened():
                self._hear_opened()
            case Failed(error):
                self._hear_failed(member, error)
                answer(None)
            case Leaving(counted):
                member.tally.tell(counted)
                self._counts.leave(member.tally)
                self._remove(member)
            case Left(counted):
                member.tally.tell(counted)
                answer(None)
            case ReloadAll(configs):
                self._control.submit(self._reload_for_client, configs, answer)
            case CountOthers(counted):
                member.tally.tell(counted)
                self._counts.tell_others(member.tally, self._living(), answer)

    def is_serving(self, member: Member) -> bool:
        """Whether it may have its ports open; not while it starts, nor when it has drained."""
        with self._lock:
            return member.is_serving and member in self._members

    def count(self, counted: Snapshot) -> None:
        """Add to what the workers have counted together what the caller has."""
        self._counts.add(counted)

    def _end(self, member: Member) -> None:
        """The worker has ended; what it counted is remembered, as far as it was told."""
        self._counts.end(member.tally)
        self._remove(member)

    def _remove(self, member: Member) -> None:
        """The worker does not serve any more. Idempotent."""
        with self._lock:
            if member in self._members:
                self._members.remove(member)
                self._combine_all()

    @property
    def is_starting(self) -> bool:
        """Whether the ports of some worker have never been open yet."""
        return self._unopened > 0

    def configs(self) -> Sequence[ModelConfig]:
        """The configuration in force."""
        return self._configs

    def begin_reload(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        """As :meth:`core.models.Models.begin_reload`, in all workers; ``done`` hears the worst.

        Blocks while the workers check, and raises what the first says that refuses; then nothing
        has changed in any of them. Raises Unavailable while there is none.
        """
        with self._reloading:  # so that all workers take one configuration after another
            self._check(configs)
            with self._lock:
                self._configs = configs
                asked = [(each, each.channel.ask(Reload(configs))) for each in self._serving()]
                for each, _ in asked:
                    each.configs = configs
        when_all([question for _, question in asked], lambda _: self._settle(asked, done))

    def _check(self, configs: Sequence[ModelConfig]) -> None:
        with self._lock:
            asked = [(each, each.channel.ask(Check(configs))) for each in self._serving()]
        if not asked:
            raise Unavailable("no worker serves at the moment")
        answers = [question for _, question in asked]
        _, silent = concurrent.futures.wait(answers, timeout=_SECONDS_TO_CHECK)
        for each, question in asked:
            if question in silent:
                raise DeadlineExceeded(f"{each.name} does not answer")
        for error in _errors(asked):
            raise error

    def _settle(
        self,
        asked: Sequence[tuple[Member, Future[object]]],
        done: Callable[[ServingError | None], None],
    ) -> None:
        """Tell the outcome only when every worker knows where the models stand now."""
        errors = _errors(asked)
        with self._lock:
            questions = [each.channel.ask(Settle()) for each in self._serving()]
        when_all(questions, lambda _: done(errors[0] if errors else None))

    def _reload_for_client(self, configs: Sequence[ModelConfig], answer: Answer) -> None:
        try:
            self.begin_reload(configs, answer)
        except ServingError as error:
            answer(error)

    def _hear_state(self, member: Member, state: ServableState) -> None:
        with self._lock:
            member.bus.publish(state)
            self._names.add(state.id.name)
            if member.is_serving:
                self._combine(state.id.name)

    def _next_step(self, member: Member) -> Permission | Reload:
        """What a worker that is ready is to do, which asks again and again until it may open."""
        with self._lock:
            if member.configs is not self._configs:
                member.configs = self._configs
                return Reload(self._configs)
            if not member.is_ready:
                member.is_ready, member.ready_since = True, self._clock.monotonic()
            if not (self._are_all_ready() if self.is_starting else self._has_caught_up(member)):
                return Permission.WAIT
            for each in self._members if self.is_starting else [member]:
                each.is_serving = True
                self._counts.begin(each.tally)
            self._combine_all()
            for name in self._names:
                member.channel.tell(self._told(name))
            return Permission.OPEN

    def _are_all_ready(self) -> bool:
        return sum(member.is_ready for member in self._members) == self._options.num_workers

    def _has_caught_up(self, member: Member) -> bool:
        """Whether it has every version that clients are told is available.

        Raises Unavailable where it has had the time: others can be asked for what it lacks.
        """
        if self._is_lazy:
            return True
        missing = [
            str(each)
            for name, versions in self._combined.items()
            for each in _available(versions).difference(_available(member.versions(name)))
        ]
        waited = self._clock.monotonic() - member.ready_since
        if missing and waited >= _SECONDS_TO_CATCH_UP:
            raise Unavailable(f"the other workers serve what this one can not: {missing}")
        return not missing

    def _hear_opened(self) -> None:
        with self._lock:
            is_last = self._unopened == 1
            self._unopened = max(0, self._unopened - 1)
        if is_last:
            self._on_started(None)

    def _hear_failed(self, member: Member, error: ServingError) -> None:
        """At the start it is everybody's failure; later the others serve on."""
        if self.is_starting:
            self._on_started(error)
        else:
            log.error("%s can not serve: %s", member.name, error)

    def _serving(self) -> list[Member]:
        return [member for member in self._members if member.is_serving]

    def _living(self) -> set[ServableId]:
        """Every version that any worker has."""
        with self._lock:
            return {
                each
                for versions in self._combined.values()
                for each, state in versions.items()
                if state.state is not ManagerState.END
            }

    def _combine_all(self) -> None:
        for name in self._names:
            self._combine(name)

    def _combine(self, name: str) -> None:
        """Tell everybody where the versions of this model stand together, if that is new."""
        before = self._combined.get(name, {})
        reports = [member.versions(name) for member in self._serving()]
        self._combined[name] = {
            each: self._combine_states(
                [report.get(each) for report in reports],
                before[each].state if each in before else None,
            )
            for each in sorted({each for report in reports for each in report}, reverse=True)
        }
        if self._combined[name] != before:
            message = self._told(name)
            for member in self._serving():
                member.channel.tell(message)

    def _told(self, name: str) -> Combined:
        versions = self._combined[name]
        latest = max((each.version for each in _available(versions)), default=None)
        return Combined(name, list(versions.values()), None if self._is_lazy else latest)


def _available(versions: Mapping[ServableId, ServableState]) -> set[ServableId]:
    return {each for each, state in versions.items() if state.state is ManagerState.AVAILABLE}


def _errors(asked: Sequence[tuple[Member, Future[object]]]) -> list[ServingError]:
    """Of workers that are still there: one that is gone is replaced by one that knows better."""
    return [
        outcome
        for member, question in asked
        if isinstance(outcome := question.result(), ServingError) and not member.channel.is_closed
    ]
