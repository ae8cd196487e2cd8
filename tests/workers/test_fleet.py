"""What the supervisor does for all workers, each of which is the end of a channel here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from queue import SimpleQueue

import pytest
from channel_ends import WAIT_SECONDS, ChannelEnd, await_, counted, level, runs

from serving.config.command_line import parse_command_line
from serving.config.options import server_options
from serving.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    ServingError,
    Unavailable,
    Unknown,
)
from serving.core.model_config import ModelConfig
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.families import merged
from serving.testing import FakeClock
from serving.workers import counts
from serving.workers.channel import Answer, Channel
from serving.workers.fleet import Fleet
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
    Ready,
    Reload,
    ReloadAll,
    Settle,
)

MODELS = [ModelConfig("m", "/m", version_labels={"stable": 1})]
MORE = [*MODELS, ModelConfig("n", "/n")]
REFUSED = FailedPrecondition("no such version")
WILLING = {Check: None, Reload: None, Settle: None}


def state(version: int, name: str, error: ServingError | None = None) -> ServableState:
    return ServableState(ServableId("m", version), ManagerState[name], error)


class Company:
    """A fleet and its workers, which agree to everything."""

    def __init__(self) -> None:
        self.outcome: SimpleQueue[ServingError | None] = SimpleQueue()
        flags = ["--model_base_path=/m", "--num_workers=2"]
        self.clock = FakeClock()
        self.fleet = Fleet(
            server_options(parse_command_line(flags)),
            MODELS,
            log_level="info",
            clock=self.clock,
            on_started=self.outcome.put,
        )
        self.workers = [self.hire(), self.hire()]

    def hire(self) -> ChannelEnd:
        end = ChannelEnd()
        end.answers = dict(WILLING)
        self.fleet.admit("a worker", Channel(end.other, "a worker"))
        return end

    def start(self) -> None:
        asked = [worker.ask(Ready()) for worker in (*self.workers, self.workers[0])]
        assert asked == [Permission.WAIT, Permission.OPEN, Permission.OPEN]
        for worker in self.workers:
            worker.channel.tell(Opened())
        assert self.outcome.get(timeout=WAIT_SECONDS) is None

    def close(self) -> None:
        for worker in self.workers:
            if not worker.ended.is_set():
                worker.end()

    def reload(self, configs: list[ModelConfig]) -> object:
        """The answer to a client of the first worker."""
        return self.workers[0].ask(ReloadAll(configs))


@pytest.fixture
def company() -> Iterator[Company]:
    company = Company()
    yield company
    company.close()


@pytest.fixture
def started(company: Company) -> Company:
    company.start()
    return company


def questions(worker: ChannelEnd) -> list[Answer]:
    """Of what it has counted, that it has not answered."""
    return [answer for message, answer in worker.unanswered if message == Count()]


def last_told(worker: ChannelEnd) -> Combined | None:
    return next((each for each in reversed(worker.heard) if isinstance(each, Combined)), None)


def await_told(company: Company, latest: int | None, *versions: ServableState) -> None:
    for worker in company.workers:
        await_(lambda worker=worker: last_told(worker) == Combined("m", list(versions), latest))


class TestStart:
    def test_workers_are_told_what_to_serve(self, company: Company) -> None:
        for worker in company.workers:
            await_(lambda worker=worker: bool(worker.heard))
            begin = worker.heard[0]
            assert isinstance(begin, Begin)
            assert (begin.configs, begin.log_level) == (MODELS, "info")

    def test_no_port_opens_before_all_workers_are_ready(self, company: Company) -> None:
        first, second = company.workers
        assert [first.ask(Ready()) for _ in range(2)] == [Permission.WAIT] * 2
        assert [each.ask(Ready()) for each in (second, first)] == [Permission.OPEN] * 2

    def test_has_ended_when_all_ports_are_open(self, company: Company) -> None:
        assert company.fleet.is_starting
        company.start()
        assert not company.fleet.is_starting

    def test_a_worker_that_fails_fails_the_start(self, company: Company) -> None:
        company.workers[0].ask(Failed(Unknown("m failed")))
        assert str(company.outcome.get(timeout=WAIT_SECONDS)) == "UNKNOWN: m failed"

    def test_later_the_others_serve_on(
        self, started: Company, caplog: pytest.LogCaptureFixture
    ) -> None:
        started.workers[0].ask(Failed(Unknown("m failed")))
        assert caplog.messages == ["a worker can not serve: UNKNOWN: m failed"]
        assert started.outcome.empty()


class TestStates:
    def test_a_version_is_available_once_it_is_in_all_of_them(self, started: Company) -> None:
        first, second = started.workers
        first.channel.tell(Heard(state(1, "AVAILABLE")))
        await_told(started, None, state(1, "LOADING"))
        second.channel.tell(Heard(state(1, "AVAILABLE")))
        await_told(started, 1, state(1, "AVAILABLE"))

    def test_the_latest_is_the_highest_that_all_have(self, started: Company) -> None:
        for worker in started.workers:
            worker.channel.tell(Heard(state(1, "AVAILABLE")))
        started.workers[1].channel.tell(Heard(state(2, "AVAILABLE")))
        await_told(started, 1, state(2, "LOADING"), state(1, "AVAILABLE"))
        started.workers[0].channel.tell(Heard(state(2, "AVAILABLE")))
        await_told(started, 2, state(2, "AVAILABLE"), state(1, "AVAILABLE"))

    def test_an_error_in_any_of_them_shows(self, started: Company) -> None:
        error = InvalidArgument("no graph")
        for worker, version in zip(
            started.workers, (state(2, "AVAILABLE"), state(2, "END", error)), strict=True
        ):
            worker.channel.tell(Heard(version))

        def shown() -> bool:
            told = last_told(started.workers[0])
            return told is not None and str(told.versions[0].error) == str(error)

        await_(shown)

    @pytest.mark.parametrize("end", [True, False], ids=["killed", "leaving"])
    def test_a_worker_that_does_not_serve_does_not_count(self, started: Company, end: bool) -> None:
        first, second = started.workers
        first.channel.tell(Heard(state(1, "AVAILABLE")))
        if end:
            second.end()
        else:
            second.channel.tell(Leaving({}))
        await_(lambda: last_told(first) == Combined("m", [state(1, "AVAILABLE")], 1))


class TestReplacement:
    @pytest.fixture
    def worker(self, started: Company) -> ChannelEnd:
        """Version 1 is available in the first worker; the second has been replaced by this one."""
        started.workers[0].channel.tell(Heard(state(1, "AVAILABLE")))
        started.workers[1].end()
        started.workers[1] = started.hire()
        await_(lambda: last_told(started.workers[0]) is not None)
        return started.workers[1]

    def test_gets_the_labels_when_its_versions_are_loaded(self, worker: ChannelEnd) -> None:
        await_(lambda: bool(worker.heard))
        begin = worker.heard[0]
        assert isinstance(begin, Begin)
        assert (begin.configs, begin.is_replacement) == ([ModelConfig("m", "/m")], True)
        assert worker.ask(Ready()) == Reload(MODELS)

    def test_takes_the_logs_that_the_others_have_as_they_are(
        self, started: Company, worker: ChannelEnd
    ) -> None:
        await_(lambda: bool(worker.heard))
        first, second = started.workers[0].heard[0], worker.heard[0]
        assert isinstance(first, Begin)
        assert isinstance(second, Begin)
        assert not first.options.request_log.is_replacement
        assert second.options.request_log.is_replacement

    def test_opens_when_it_has_what_the_others_have(
        self, started: Company, worker: ChannelEnd
    ) -> None:
        worker.ask(Ready())
        worker.channel.tell(Heard(state(1, "LOADING")))
        assert worker.ask(Ready()) is Permission.WAIT
        assert last_told(worker) is None
        worker.channel.tell(Heard(state(1, "AVAILABLE")))
        assert worker.ask(Ready()) is Permission.OPEN
        await_told(started, 1, state(1, "AVAILABLE"))

    def test_until_then_clients_hear_of_the_others_alone(
        self, started: Company, worker: ChannelEnd
    ) -> None:
        worker.channel.tell(Heard(state(1, "LOADING")))
        worker.ask(Ready())
        started.workers[0].channel.tell(Heard(state(2, "AVAILABLE")))
        two = Combined("m", [state(2, "AVAILABLE"), state(1, "AVAILABLE")], 2)
        await_(lambda: last_told(started.workers[0]) == two)

    def test_does_not_open_with_less_than_the_others_have(
        self, started: Company, worker: ChannelEnd
    ) -> None:
        worker.ask(Ready())
        assert worker.ask(Ready()) is Permission.WAIT
        started.clock.advance(30)
        assert str(worker.ask(Ready())) == (
            "UNAVAILABLE: the other workers serve what this one can not: ['{name: m version: 1}']"
        )

    def test_does_not_wait_for_what_no_other_serves(
        self, started: Company, worker: ChannelEnd
    ) -> None:
        worker.ask(Ready())
        started.workers[0].end()
        await_(lambda: worker.ask(Ready()) is Permission.OPEN)

    def test_serves_what_the_others_were_told_while_it_started(
        self, started: Company, worker: ChannelEnd
    ) -> None:
        assert started.reload(MORE) is None
        assert worker.ask(Ready()) == Reload(MORE)
        assert Reload(MORE) not in worker.heard


class TestReload:
    def test_is_answered_when_all_have_it_and_know_the_states(self, started: Company) -> None:
        first, second = started.workers
        second.answers = {Check: None}
        answer = first.channel.ask(ReloadAll(MORE))
        second.await_heard(Reload(MORE))
        assert started.fleet.configs() == MORE
        assert not answer.done()
        second.unanswered.pop()[1](None)
        second.await_heard(Settle())
        assert not answer.done()
        second.unanswered.pop()[1](None)
        assert answer.result(WAIT_SECONDS) is None
        assert Reload(MORE) in first.heard

    def test_that_one_refuses_changes_none(self, started: Company) -> None:
        started.workers[1].answers = {**WILLING, Check: REFUSED}
        assert str(started.reload(MORE)) == str(REFUSED)
        assert started.fleet.configs() == MODELS
        assert Reload(MORE) not in started.workers[0].heard

    def test_ends_as_badly_as_in_the_worst_worker(self, started: Company) -> None:
        started.workers[1].answers = {**WILLING, Reload: Unknown("n failed")}
        assert str(started.reload(MORE)) == "UNKNOWN: n failed"
        assert started.fleet.configs() == MORE

    def test_does_not_wait_for_a_worker_that_died_over_it(self, started: Company) -> None:
        second = started.workers[1]
        second.answers = {Check: None}
        answer = started.workers[0].channel.ask(ReloadAll(MORE))
        second.await_heard(Reload(MORE))
        second.end()
        assert answer.result(WAIT_SECONDS) is None

    def test_of_the_config_file_is_refused_while_nobody_serves(self, started: Company) -> None:
        for worker in started.workers:
            worker.end()

        def refused() -> bool:
            outcome: Future[ServingError | None] = Future()
            try:
                started.fleet.begin_reload(MORE, outcome.set_result)
            except Unavailable:
                return True
            return False

        await_(refused)


def test_what_was_counted_is_asked_of_the_others(started: Company) -> None:
    first, second = started.workers
    second.answers = {Count: counted(2)}
    assert first.ask(CountOthers(counted(1))) == [{}, counted(2)]


class TestAWorkerThatDoesNotAnswer:
    """It counts with what it told last: a counter never goes down."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(counts, "_SECONDS_TO_COUNT", 0.05)

    def test_counts_with_what_it_told_last_but_its_gauges(self, started: Company) -> None:
        first, second = started.workers
        second.ask(CountOthers(counted(2) | level(7)))
        assert first.ask(CountOthers({})) == [{}, counted(2)]

    def test_has_one_question_to_answer(self, started: Company) -> None:
        first, second = started.workers
        for _ in range(3):
            first.ask(CountOthers({}))
        assert second.heard.count(Count()) == 1
        (answer,) = questions(second)
        answer(counted(4))
        second.answers = {Count: counted(5)}
        await_(lambda: first.ask(CountOthers({})) == [{}, counted(5)])


def test_what_is_told_last_stays(started: Company) -> None:
    """Also where a worker answers, and then tells more before anybody has read the answer."""
    first, second = started.workers
    answer = first.channel.ask(CountOthers({}))
    await_(lambda: len(questions(second)) == 1)
    questions(second)[0](counted(1))
    second.channel.tell(Leaving(counted(2)))
    answer.result(WAIT_SECONDS)
    await_(lambda: merged(first.ask(CountOthers({}))) == counted(2))


class TestWhatWasCountedForAVersion:
    """It goes when no worker has the version any more, also if the worker that counted is gone."""

    @pytest.mark.parametrize("end", [False, True])
    def test_stays_while_one_has_it(self, started: Company, end: bool) -> None:
        first, second = started.workers
        for worker in started.workers:
            worker.channel.tell(Heard(state(1, "AVAILABLE")))
        await_told(started, 1, state(1, "AVAILABLE"))
        second.answers = {Count: runs(1, 2)}
        assert merged(first.ask(CountOthers({}))) == runs(1, 2)
        if end:
            second.end()
        else:
            second.channel.tell(Heard(state(1, "END")))
        await_(lambda: merged(first.ask(CountOthers({}))) == runs(1, 2))
        first.channel.tell(Heard(state(1, "END")))
        await_(lambda: merged(first.ask(CountOthers({})))["/r"].cells == {})


class TestWhatAWorkerCountedThatIsGone:
    """It stays in the sums: a counter never goes down."""

    def test_is_what_it_told_when_it_left(self, started: Company) -> None:
        first, second = started.workers
        second.channel.tell(Leaving(counted(5)))
        second.ask(Failed(Unknown("for what was told before to be known")))
        assert first.ask(CountOthers({})) == [{}, counted(5)]

    def test_is_what_it_told_when_all_was_done(self, started: Company) -> None:
        """The log of requests and unloads are counted after the ports have closed."""
        first, second = started.workers
        second.channel.tell(Leaving(counted(5)))
        assert second.ask(Left(counted(6))) is None
        assert first.ask(CountOthers({})) == [{}, counted(6)]
        second.end()
        await_(lambda: first.ask(CountOthers({})) == [counted(6)])

    def test_is_what_it_told_when_another_asked(self, started: Company) -> None:
        first, second = started.workers
        second.answers = {Count: counted(2)}
        first.ask(CountOthers({}))
        second.end()
        await_(lambda: first.ask(CountOthers({})) == [counted(2)])

    def test_is_what_it_told_when_it_asked_itself(self, started: Company) -> None:
        first, second = started.workers
        first.answers = {Count: {}}
        second.ask(CountOthers(counted(3)))
        second.end()
        await_(lambda: first.ask(CountOthers({})) == [counted(3)])

    def test_is_counted_once_when_it_ends_instead_of_answering(self, started: Company) -> None:
        first, second = started.workers
        second.answers = {Count: counted(2)}
        first.ask(CountOthers({}))
        second.answers = {}
        answer = first.channel.ask(CountOthers({}))
        second.await_heard(Count())
        await_(lambda: len(second.unanswered) == 1)
        second.end()
        assert merged(answer.result(WAIT_SECONDS)) == counted(2)

    def test_is_the_sum_over_all_of_them_without_their_gauges(self, started: Company) -> None:
        first, second = started.workers
        second.answers = {Count: counted(2) | level(7)}
        assert first.ask(CountOthers({})) == [{}, counted(2) | level(7)]
        second.end()
        third = started.hire()
        third.channel.tell(Leaving(counted(3)))
        await_(lambda: first.ask(CountOthers({})) == [counted(2), counted(3)])
        third.end()
        await_(lambda: first.ask(CountOthers({})) == [counted(5)])
