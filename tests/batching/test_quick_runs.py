"""What is quicker done than handed over is done where it comes, and as in a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from serving.batching.batch_runs import BatchRuns
from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.batching_task import BatchingTask
from serving.batching.quick_runs import QuickRuns
from serving.batching.run_times import RunTimes
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.errors import FailedPrecondition, Internal, InvalidArgument, ServingError
from serving.core.servable import Outputs, RunCallback, RunOptions
from serving.testing import FakeClock, FakeServable

Result = Outputs | ServingError


class Timed:
    """Tasks of a model that takes ``alone`` seconds for one, and in a batch ``batch`` seconds."""

    def __init__(self, alone: float, batch: float, **options: object) -> None:
        self.alone = alone
        self.fails = False
        self.answers: list[Result] = []
        self._clock = FakeClock()
        self.batches = RunTimes()
        if batch:
            self.batches.learn(1, batch)
        self.best_rate = 0.0
        self.quick = QuickRuns(
            self._run,
            BatchingOptions(**options),
            self.batches,
            lambda: self.best_rate,
            self._clock,
        )

    def _run(self, task: BatchingTask, done: RunCallback) -> None:
        self._clock.advance(self.alone)
        done(InvalidArgument("bad") if self.fails else [])

    def send(self, tasks: int, rows: int = 1) -> list[bool]:
        """Which of them are run where they come."""
        taken = []
        for _ in range(tasks):
            taken.append(self.quick.takes(rows))
            if taken[-1]:
                self.quick.run(BatchingTask({}, (), rows, RunOptions(), self.answers.append))
        return taken


def test_what_takes_less_alone_than_batching_adds_is_run_alone_from_the_first_try_on():
    timed = Timed(alone=30e-6, batch=100e-6)
    assert timed.send(100) == [False] * 16 + [True] * 84
    assert timed.answers == [[]] * 84


@pytest.mark.parametrize(
    ("alone", "batch"),
    [(1.1e-3, 1.9e-3), (90e-6, 100e-6)],
    ids=["long", "nearly as long as a batch"],
)
def test_what_does_not_is_tried_again_ever_more_rarely(alone: float, batch: float):
    taken = Timed(alone, batch).send(200)
    assert taken == [False] * 16 + [True] * 8 + [False] * 32 + [True] * 8 + [False] * 64 + (
        [True] * 8 + [False] * 64
    )


@pytest.mark.parametrize("batch", [0.0, 0.003], ids=["unknown", "long"])
def test_nothing_is_tried_while_batches_take_long_or_nothing_is_known(batch: float):
    assert not any(Timed(30e-6, batch).send(200))


@pytest.mark.parametrize("alone", [0.003, 0.02, 10.0])
def test_what_turns_slow_goes_into_batches_before_it_has_held_up_others_for_long(alone: float):
    """As long as one run, or some 200 ms."""
    timed = Timed(alone=30e-6, batch=100e-6)
    timed.send(30)
    timed.alone = alone
    taken = timed.send(300)
    held_up = taken.index(False)
    assert not any(taken[held_up:][:16])
    assert held_up * alone < max(0.3, 2 * alone)


def test_single_runs_that_a_busy_machine_interrupts_send_nothing_into_batches():
    timed = Timed(alone=30e-6, batch=100e-6)
    timed.send(30)
    for _ in range(18):
        timed.alone = 0.01
        assert timed.send(1) == [True]
        timed.alone = 30e-6
        assert all(timed.send(50))


def test_what_costs_more_alone_than_in_a_large_batch_is_not_run_alone():
    """However long batches of one row wait for a processor."""
    timed = Timed(alone=300e-6, batch=0.0019)
    timed.best_rate = 2.0 / 300e-6
    assert timed.send(2000).count(True) <= 8 * 6


def test_now_and_then_batches_can_show_that_they_have_become_better():
    """Less than one task in a hundred, in the long run."""
    timed = Timed(alone=300e-6, batch=0.0019)
    taken = timed.send(100_000)[16:]
    shown = taken.index(False)
    assert shown == pytest.approx(1024, abs=1)
    assert taken[shown:][:100] == [False] * 64 + [True] * 36
    assert 0.99 * len(taken) < taken.count(True) < len(taken)
    timed.best_rate = 2.0 / 300e-6
    assert timed.send(20_000).count(True) <= 8192 + 8 * 12


def test_a_rare_run_that_takes_long_sends_the_others_into_batches_for_a_short_while():
    timed = Timed(alone=30e-6, batch=100e-6)
    for _ in range(5):
        timed.alone = 30e-6
        taken = timed.send(2000)
        assert taken[:16] == [False] * 16
        assert taken.count(False) <= 16 + 2 * 64
        timed.alone = 0.2
        while timed.send(1) == [False]:
            pass


def test_what_often_takes_long_is_tried_ever_more_rarely():
    timed = Timed(alone=30e-6, batch=100e-6)
    slow = 0
    for number in range(20_000):
        timed.alone = 0.01 if number % 4 == 0 else 30e-6
        slow += timed.send(1) == [True] and timed.alone == 0.01
    assert slow < 300


def test_errors_that_come_quickly_do_not_make_a_slow_model_quick():
    timed = Timed(alone=0.001, batch=0.0015)
    taken = []
    for number in range(1000):
        timed.fails = number % 2 == 1
        timed.alone = 1e-6 if timed.fails else 0.001
        taken += timed.send(1)
    assert taken.count(True) <= 8 * 6


def test_what_few_rows_take_says_nothing_of_many():
    timed = Timed(alone=2e-6, batch=100e-6)
    timed.batches.learn(64, 0.003)
    assert timed.send(100)[-1]
    assert timed.send(10, rows=64) == [False] * 10


def test_no_size_is_tried_of_which_no_batch_was_run():
    assert not any(Timed(alone=30e-6, batch=2e-6).send(100, rows=64))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"queue": QueueOptions(max_batch_size=2)}, 3),
        ({"queue": QueueOptions(max_batch_size=4), "allowed_batch_sizes": (2, 4)}, 3),
        (
            {
                "queue": QueueOptions(
                    max_batch_size=4, enable_large_batch_splitting=True, max_execution_batch_size=2
                )
            },
            3,
        ),
    ],
    ids=["too large", "of a size that is not allowed", "to be split"],
)
def test_what_would_not_be_a_batch_by_itself_is_not_run_alone(
    options: dict[str, object], rows: int
):
    timed = Timed(30e-6, 100e-6, **options)
    for size in (2, 3):
        timed.batches.learn(size, 100e-6)
    assert any(timed.send(30, rows=2))
    assert not any(timed.send(30, rows))


def alone(servable: FakeServable, fetches: Sequence[str], fetched: Sequence[str]) -> Result:
    clock, answers = FakeClock(), []
    runs = BatchRuns(servable, fetched, BatchingOptions(), RunTimes(), clock)
    task = BatchingTask({"x:0": np.ones(2)}, fetches, 2, RunOptions(), answers.append)
    runs.run_alone(task, task.answer)
    (answer,) = answers
    return answer


def test_outputs_of_a_run_alone_come_in_the_order_asked_for():
    servable = FakeServable(lambda feeds: {"a:0": feeds["x:0"], "b:0": -feeds["x:0"]})
    outputs = alone(servable, ["b:0", "a:0", "b:0"], ["a:0", "b:0"])
    assert not isinstance(outputs, ServingError)
    assert [output.tolist() for output in outputs] == [[-1, -1], [1, 1], [-1, -1]]


def test_a_run_alone_is_held_to_what_batches_are():
    total = FakeServable(lambda feeds: {"y:0": feeds["x:0"].sum()})
    assert isinstance(alone(total, ["y:0"], ["y:0"]), FailedPrecondition)
    refusing = FakeServable(lambda feeds: {"z:0": feeds["x:0"]})
    assert isinstance(alone(refusing, ["y:0"], ["y:0"]), InvalidArgument)

    class Fewer(FakeServable):
        def run(self, feeds, fetches, options, done):
            done([])

    assert isinstance(alone(Fewer(), ["y:0"], ["y:0"]), Internal)


def test_a_run_alone_is_answered_though_its_outputs_are_no_arrays(
    caplog: pytest.LogCaptureFixture,
):
    class Listing(FakeServable):
        def run(self, feeds, fetches, options, done):
            done([[1.0, 2.0]])

    answer = alone(Listing(), ["y:0"], ["y:0"])
    assert isinstance(answer, Internal)
    assert answer.message == "the run failed unexpectedly"
    assert "Traceback" in caplog.text


class Quick(FakeServable):
    """Takes a microsecond."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def run(self, feeds, fetches, options, done):
        self._clock.advance(1e-6)
        super().run(feeds, fetches, options, done)


class QuickBounded(Quick):
    max_runs = 1


class QuickForNow(Quick):
    may_run_long = True


@pytest.mark.parametrize(
    ("model", "adaptive", "caller_may_wait", "past_batches"),
    [
        (Quick, True, True, True),
        (Quick, True, False, True),
        (QuickForNow, True, True, True),
        (QuickForNow, True, False, False),
        (QuickBounded, True, True, False),
        (Quick, False, True, False),
    ],
)
def test_a_quick_model_is_run_where_requests_come_if_that_holds_up_nobody(
    model: type[Quick], adaptive: bool, caller_may_wait: bool, past_batches: bool
):
    clock = FakeClock()
    servable, scheduler = model(clock), SharedBatchScheduler(SchedulerOptions(1), clock)
    options = BatchingOptions(adaptive=adaptive)
    batched = BatchingServable(servable, servable, scheduler, options, clock)
    answers: list[Result] = []

    def answer(result: Result) -> None:
        clock.advance(1e-5)  # which batches are timed with
        answers.append(result)

    at_once = []
    for number in range(60):
        run_options = RunOptions(caller_may_wait=caller_may_wait)
        batched.run({"x:0": np.ones(1)}, ["y:0"], run_options, answer)
        at_once.append(len(answers) == number + 1)
        scheduler.run_once()
    assert at_once == [False] * 16 + [past_batches] * 44
    assert [output.tolist() for (output,) in answers] == [[2.5]] * 60
