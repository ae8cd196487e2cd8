"""What a worker does with what its supervisor says, which is the end of a channel here."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest
from channel_ends import WAIT_SECONDS, ChannelEnd, await_, counted

from serving.config.command_line import parse_command_line
from serving.config.options import server_options
from serving.core.clock import SystemClock
from serving.core.errors import FailedPrecondition, Internal, Unavailable, Unknown
from serving.core.model_config import ModelConfig
from serving.core.models import Models
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.loaders.platforms import Platforms
from serving.metrics.registry import Metrics
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions
from serving.workers import supervised_peers
from serving.workers.channel import Answer, Channel
from serving.workers.messages import (
    Begin,
    Check,
    Combined,
    Count,
    CountOthers,
    Failed,
    Heard,
    Left,
    Permission,
    Ping,
    Ready,
    Reload,
    Settle,
)
from serving.workers.supervised_peers import SupervisedPeers

V1 = ServableId("m", 1)
AVAILABLE = ServableState(V1, ManagerState.AVAILABLE)


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Those that have a worker drain and end."""
    heard: list[int] = []  # not an Event, whose waiting thread the handler interrupts
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def supervisor(signals: list[int]) -> Iterator[ChannelEnd]:
    """Its end is that of the supervisor: what listens at the other end is told to end too."""
    end = ChannelEnd()
    yield end
    if not end.ended.is_set():
        signals.clear()
        end.end()
        await_(lambda: bool(signals))


@pytest.fixture
def peers(supervisor: ChannelEnd) -> SupervisedPeers:
    return SupervisedPeers(Channel(supervisor.other, "the supervisor"))


@pytest.fixture
def core() -> Iterator[ServerCore]:
    made = ServerCore(
        LifecycleOptions(version_settle_seconds=0, max_num_load_retries=0),
        Platforms({}),
        clock=SystemClock(),
    )
    yield made
    made.stop()


@pytest.fixture
def configs(tmp_path: Path) -> list[ModelConfig]:
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (version / "table.csv").write_text("key,value\n")
    return [ModelConfig("m", str(tmp_path / "m"), "hashmap")]


@pytest.fixture
def broken(tmp_path: Path) -> ModelConfig:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    return ModelConfig("broken", str(tmp_path / "broken"), "hashmap")


def begin(
    supervisor: ChannelEnd,
    peers: SupervisedPeers,
    configs: list[ModelConfig],
    is_replacement: bool = False,
) -> None:
    options = server_options(parse_command_line(["--model_base_path=/m"]))
    message = Begin(options, configs, "info", is_replacement)
    supervisor.channel.tell(message)
    assert peers.await_begin() == message


class Joining:
    """A worker's main thread, asking whether it may open its ports."""

    def __init__(self, peers: SupervisedPeers, core: ServerCore) -> None:
        self.models: list[Models] = []
        self.errors: list[Exception] = []
        self._thread = threading.Thread(target=self._run, args=(peers, core))
        self._thread.start()

    def _run(self, peers: SupervisedPeers, core: ServerCore) -> None:
        try:
            self.models.append(peers.join(core, Metrics(), ExitStack()))
        except Unavailable as error:
            self.errors.append(error)

    def end(self) -> None:
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()


def answer_ready(supervisor: ChannelEnd, outcome: object) -> None:
    def asked() -> list[Answer]:
        return [answer for message, answer in supervisor.unanswered if message == Ready()]

    await_(lambda: bool(asked()))
    (answer,) = asked()
    supervisor.unanswered.clear()
    answer(outcome)


def test_a_worker_tells_what_becomes_of_its_versions(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore, configs: list[ModelConfig]
) -> None:
    begin(supervisor, peers, configs)
    peers.start(core)
    supervisor.await_heard(Heard(AVAILABLE))


def test_a_model_that_fails_fails_the_first_start(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore, broken: ModelConfig
) -> None:
    begin(supervisor, peers, [broken])
    with pytest.raises(Unknown, match="broken"):
        peers.start(core)


def test_a_model_that_fails_does_not_keep_a_replacement_away(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore, broken: ModelConfig
) -> None:
    """The supervisor knows whether it failed in the others too."""
    begin(supervisor, peers, [broken], is_replacement=True)
    peers.start(core)


def test_a_worker_asks_until_it_may_open_and_serves_what_it_is_told_meanwhile(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore, configs: list[ModelConfig]
) -> None:
    begin(supervisor, peers, [], is_replacement=True)
    peers.start(core)
    joining = Joining(peers, core)
    answer_ready(supervisor, Permission.WAIT)
    answer_ready(supervisor, Reload(configs))
    answer_ready(supervisor, Permission.WAIT)
    assert list(core.available()) == [V1]
    assert joining.models == []
    answer_ready(supervisor, Permission.OPEN)
    joining.end()
    assert len(joining.models) == 1


def labelled(configs: list[ModelConfig], **labels: int) -> list[ModelConfig]:
    return [replace(config, version_labels=labels) for config in configs]


def test_a_replacement_leaves_out_labels_of_versions_that_have_gone(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore, configs: list[ModelConfig]
) -> None:
    """Workers that had assigned them keep them; one that starts can not, and must not fail."""
    begin(supervisor, peers, configs, is_replacement=True)
    peers.start(core)
    joining = Joining(peers, core)
    answer_ready(supervisor, Reload(labelled(configs, stable=1, former=9)))
    answer_ready(supervisor, Permission.OPEN)
    joining.end()
    assert joining.errors == []
    assert core.configs() == labelled(configs, stable=1)


def test_a_replacement_assigns_labels_of_versions_that_turn_up_while_it_waits(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore, configs: list[ModelConfig]
) -> None:
    begin(supervisor, peers, [], is_replacement=True)
    peers.start(core)
    joining = Joining(peers, core)
    answer_ready(supervisor, Reload(labelled(configs, stable=1)))
    answer_ready(supervisor, Permission.OPEN)
    joining.end()
    assert core.configs() == labelled(configs, stable=1)


def test_a_worker_that_may_not_open_says_why(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore
) -> None:
    begin(supervisor, peers, [])
    peers.start(core)
    joining = Joining(peers, core)
    answer_ready(supervisor, Unavailable("too late"))
    joining.end()
    assert [str(error) for error in joining.errors] == ["UNAVAILABLE: too late"]
    supervisor.answers = {Failed: None}
    peers.failed(Unavailable("too late"))
    assert any(isinstance(message, Failed) for message in supervisor.heard)


def test_a_version_is_everywhere_when_the_supervisor_says_so(
    supervisor: ChannelEnd, peers: SupervisedPeers
) -> None:
    assert not peers.is_everywhere(V1)
    for name, expected in (("LOADING", False), ("AVAILABLE", True), ("UNLOADING", False)):
        state = ServableState(V1, ManagerState[name])
        supervisor.channel.tell(Combined("m", [state], None))
        await_(lambda expected=expected: peers.is_everywhere(V1) is expected)


def test_a_worker_asks_what_the_others_counted(
    supervisor: ChannelEnd, peers: SupervisedPeers
) -> None:
    ours, theirs = counted(1), counted(2)
    supervisor.answers = {CountOthers: [theirs]}
    assert peers.count_everywhere(lambda: ours) == [ours, theirs]
    supervisor.await_heard(CountOthers(ours))
    assert supervisor.ask(Count()) == {}


def test_what_is_counted_is_not_known_while_the_supervisor_is_silent(
    supervisor: ChannelEnd, peers: SupervisedPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than less than it was, and with a single question."""
    monkeypatch.setattr(supervised_peers, "_SECONDS_TO_COUNT", 0.05)
    for _ in range(2):
        with pytest.raises(Unavailable, match="is not known"):
            peers.count_everywhere(lambda: counted(1))
    assert supervisor.heard == [CountOthers(counted(1))]


def test_what_serves_clients_answers_for_the_worker(
    supervisor: ChannelEnd, peers: SupervisedPeers
) -> None:
    """Not the channel's thread, which goes on where an event loop is stuck."""
    assert supervisor.ask(Ping()) is None  # the ports are not open yet
    rounds: SimpleQueue[Callable[[], None]] = SimpleQueue()
    peers.opened(rounds.put)
    question = supervisor.channel.ask(Ping())
    come_round = rounds.get(timeout=WAIT_SECONDS)
    assert not question.done()
    come_round()
    assert question.result(WAIT_SECONDS) is None


def test_the_last_word_is_what_was_counted_in_the_end(
    supervisor: ChannelEnd, peers: SupervisedPeers
) -> None:
    metrics = Metrics(lambda _count: [])
    metrics.counter("/c", "", ()).increment(by=3)
    metrics.gauge("/g", "", ()).cell().add(1)
    supervisor.answers = {Left: None}
    peers.stopped(metrics)
    (left,) = supervisor.heard
    assert isinstance(left, Left)
    assert left.counted == counted(3)


def test_a_version_is_forgotten_when_it_has_ended_everywhere(
    supervisor: ChannelEnd, peers: SupervisedPeers
) -> None:
    gone: list[ServableId] = []
    peers.when_gone(gone.append)
    v2 = ServableId("m", 2)

    def told(*states: ServableState) -> list[ServableId]:
        gone.clear()
        supervisor.channel.tell(Combined("m", states, None))
        assert supervisor.ask(Settle()) is None
        return list(gone)

    ended = ServableState(V1, ManagerState.END)
    assert told(AVAILABLE, ServableState(v2, ManagerState.LOADING)) == []
    assert told(ended, ServableState(v2, ManagerState.LOADING)) == [V1]
    assert told(ended) == [v2]
    assert told() == []


@pytest.fixture
def started(
    supervisor: ChannelEnd, peers: SupervisedPeers, core: ServerCore, configs: list[ModelConfig]
) -> ChannelEnd:
    """The supervisor of a worker that has loaded its models."""
    begin(supervisor, peers, configs)
    peers.start(core)
    return supervisor


def test_a_worker_that_can_not_serve_what_the_others_do_ends(
    started: ChannelEnd, configs: list[ModelConfig], signals: list[int]
) -> None:
    outcome = started.ask(Reload(labelled(configs, stable=9)))
    assert isinstance(outcome, FailedPrecondition)
    await_(lambda: bool(signals))


def test_a_worker_that_fails_over_a_configuration_answers_all_the_same(
    started: ChannelEnd, configs: list[ModelConfig], signals: list[int]
) -> None:
    nonsense = [replace(configs[0], base_path=None)]  # type: ignore[arg-type]  # on purpose
    assert isinstance(started.ask(Check(nonsense)), Internal)
    assert signals == []
    assert isinstance(started.ask(Reload(nonsense)), Internal)
    await_(lambda: bool(signals))


def test_a_worker_ends_with_its_supervisor(
    peers: SupervisedPeers, supervisor: ChannelEnd, signals: list[int]
) -> None:
    assert not peers.is_everywhere(V1)
    assert signals == []
    supervisor.end()
    await_(lambda: bool(signals))
