"""What batching does beyond TensorFlow Serving's, where it is asked to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from serving.batching import batching_session
from serving.batching.batch_queue import Entry, TaskQueue
from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.cancellation import Cancellation
from serving.core.errors import (
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving.core.priority import Priority
from serving.core.servable import Outputs, RunCallback, RunOptions
from serving.loaders.instances import InstancesServable
from serving.testing import FakeClock, FakeServable

Result = Outputs | ServingError


class Slow(FakeServable):
    """Takes ``seconds`` of the clock's time for a batch, and remembers the rows of each."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = 0.0
        self.batches: list[list[float]] = []

    def run(
        self,
        feeds: dict[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        self.batches.append(feeds["x:0"].tolist())
        self.clock.advance(self.seconds)
        super().run(feeds, fetches, options, done)


class Batched:
    """A servable behind one batch thread, which is this one when :meth:`step` is called."""

    def __init__(self, options: BatchingOptions) -> None:
        self.clock = FakeClock()
        self.model = Slow(self.clock)
        self.scheduler = SharedBatchScheduler(SchedulerOptions(1), self.clock)
        self.servable = BatchingServable(
            self.model, self.model, self.scheduler, options, self.clock
        )

    def send(self, *rows: float, **options: object) -> list[Result]:
        results: list[Result] = []
        feeds = {"x:0": np.array(rows, np.float32)}
        self.servable.run(feeds, ["y:0"], RunOptions(**options), results.append)
        return results

    def step(self) -> list[list[float]]:
        """The batches that were run now."""
        before = len(self.model.batches)
        while self.scheduler.run_once():
            pass
        return self.model.batches[before:]

    def in_seconds(self, seconds: float) -> float:
        return self.clock.monotonic() + seconds


def error(results: list[Result]) -> type:
    (result,) = results
    return type(result)


def find_that_larger_batches_pay(queue: TaskQueue[str], at_once: int) -> None:
    """A second for so many batches of any size, which begin and end together."""
    for ticket in range(600):
        queue.add(Entry(ticket, "a", 1), 0.0)
    now = 0.0
    while not queue.is_empty:
        batches = []
        while queue.ready_at <= now and len(batches) < at_once:
            batches.append(queue.take(now))
        now = max(now + 1.0, queue.ready_at if not batches else now)
        for batch in batches:
            queue.processed(batch, now)


def test_queues_that_take_the_place_of_others_know_of_all_instances_too():
    clock = FakeClock()
    servable = InstancesServable([FakeServable(), FakeServable(), FakeServable()])
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    batched = BatchingServable(servable, servable, scheduler, BatchingOptions(), clock)
    batched.reconfigure(BatchingOptions(adaptive=True))
    (lane,) = scheduler._lanes.values()
    find_that_larger_batches_pay(lane.queue, at_once=3)
    assert lane.queue.most_at_once == 3


class Bounded(FakeServable):
    max_runs = 2


def test_a_batch_runs_at_a_time_for_each_run_that_a_model_does_at_once():
    servable, clock = Bounded(), FakeClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    BatchingServable(servable, servable, scheduler, BatchingOptions(adaptive=True), clock)
    (lane,) = scheduler._lanes.values()
    find_that_larger_batches_pay(lane.queue, at_once=2)
    assert lane.queue.most_at_once == 2


class TestDeadlines:
    @pytest.fixture
    def batched(self) -> Batched:
        """Its batches take 2 s, which is known; it waits for a minute."""
        options = QueueOptions(
            max_batch_size=4, batch_timeout_micros=60_000_000, deadline_aware=True
        )
        batched = Batched(BatchingOptions(options))
        batched.model.seconds = 2.0
        batched.send(0.0, 0.0, 0.0, 0.0)
        batched.step()
        return batched

    def test_a_batch_closes_early_enough_for_its_first_deadline(self, batched: Batched):
        batched.send(1.0)
        batched.send(2.0, deadline=batched.in_seconds(10))
        batched.clock.advance(7.5)
        assert batched.step() == []
        batched.clock.advance(0.5)
        assert batched.step() == [[1.0, 2.0]]

    def test_it_is_run_though_its_thread_wakes_a_little_late(self, batched: Batched):
        results = batched.send(1.0, deadline=batched.in_seconds(10))
        (lane,) = batched.scheduler._lanes.values()
        batched.clock.advance(lane.queue.ready_at - batched.clock.monotonic() + 0.001)
        assert batched.step() == [[1.0]]
        assert error(results) is list

    def test_sizes_that_were_never_run_are_no_reason_not_to_run(self, batched: Batched):
        batched.send(0.0)
        batched.clock.advance(60)
        batched.step()  # 1 row takes 2 s, as 4 do
        batched.servable.reconfigure(
            BatchingOptions(QueueOptions(max_batch_size=64, deadline_aware=True))
        )
        results = batched.send(*[1.0] * 64, deadline=batched.in_seconds(3))
        assert batched.step() == [[1.0] * 64]
        assert error(results) is list

    def test_a_wrong_time_of_large_batches_is_not_believed_for_ever_beside_small_ones(
        self, batched: Batched
    ):
        batched.model.seconds = 0.1
        for _ in range(4):
            batched.send(1.0)
            batched.clock.advance(60)
            batched.step()  # it is known that one row is quick
        late = []
        for _ in range(8):
            results = batched.send(1.0, 2.0, 3.0, 4.0, deadline=batched.in_seconds(0.5))
            batched.step()
            late.append(isinstance(results[0], ServingError))
            batched.send(1.0)
            batched.clock.advance(60)
            assert batched.step() == [[1.0]]
        assert late == [True] * 7 + [False]

    def test_one_that_runs_without_the_others_does_not_keep_their_time_from_being_learned(
        self, batched: Batched
    ):
        batched.model.seconds = 0.1
        late = []
        for _ in range(8):
            batched.send(0.0)
            results = batched.send(1.0, 2.0, 3.0, deadline=batched.in_seconds(0.5))
            batched.step()
            late.append(isinstance(results[0], ServingError))
        assert late == [True] * 7 + [False]

    def test_what_can_not_be_done_in_time_is_answered_and_not_run(self, batched: Batched):
        late = batched.send(1.0, deadline=batched.in_seconds(1.5))
        in_time = batched.send(2.0, 3.0, 4.0, deadline=batched.in_seconds(2.5))
        assert batched.step() == [[2.0, 3.0, 4.0]]
        assert error(late) is DeadlineExceeded
        assert not isinstance(in_time[0], ServingError)

    def test_a_time_that_keeps_all_from_running_is_not_believed_for_ever(self, batched: Batched):
        batched.model.seconds = 0.1
        late = []
        for _ in range(8):
            results = batched.send(1.0, deadline=batched.in_seconds(0.5))
            batched.step()
            late.append(isinstance(results[0], ServingError))
        assert late == [True] * 7 + [False]
        batched.send(1.0, deadline=batched.in_seconds(0.5))
        batched.clock.advance(0.4)
        assert batched.step() == [[1.0]]

    def test_deadlines_that_leave_no_time_at_all_unlearn_nothing(self, batched: Batched):
        for seconds in [0.0] * 30 + [0.001] * 30:
            batched.send(1.0, deadline=batched.in_seconds(seconds))
            batched.step()
        late = batched.send(2.0, deadline=batched.in_seconds(1.9))
        batched.step()
        assert error(late) is DeadlineExceeded


class TestGivenUp:
    def test_a_call_given_up_leaves_the_queue_and_its_room_at_once(self):
        batched = Batched(BatchingOptions(QueueOptions(max_batch_size=2, max_enqueued_batches=1)))
        cancellation = Cancellation()
        given_up = batched.send(1.0, cancellation=cancellation)
        batched.send(2.0)
        assert error(batched.send(3.0)) is Unavailable
        cancellation.cancel()
        assert error(given_up) is Cancelled
        batched.send(4.0)
        assert batched.step() == [[2.0, 4.0]]

    def test_the_parts_of_a_split_request_that_wait_are_not_run(self):
        batched = Batched(
            BatchingOptions(
                QueueOptions(
                    max_batch_size=4,
                    enable_large_batch_splitting=True,
                    max_execution_batch_size=2,
                )
            )
        )
        cancellation = Cancellation()
        given_up = batched.send(1.0, 2.0, 3.0, 4.0, cancellation=cancellation)
        batched.scheduler.run_once()
        cancellation.cancel()
        assert batched.step() == []
        assert error(given_up) is Cancelled

    def test_one_given_up_while_its_batch_runs_is_answered_once(self):
        batched = Batched(BatchingOptions())
        cancellation = Cancellation()
        results = batched.send(1.0, cancellation=cancellation)
        batched.step()
        cancellation.cancel()
        assert len(results) == 1

    def test_one_given_up_before_it_came_is_not_run(self):
        batched = Batched(BatchingOptions())
        cancellation = Cancellation()
        cancellation.cancel()
        assert error(batched.send(1.0, cancellation=cancellation)) is Cancelled
        assert batched.step() == []

    @pytest.mark.parametrize("adaptive", [False, True])
    def test_nothing_is_kept_of_a_request_that_was_answered(self, adaptive: bool):
        """One cancellation may go with any number of them."""
        batched = Batched(BatchingOptions(adaptive=adaptive))
        cancellation = Cancellation()
        for _ in range(3):
            batched.send(1.0, cancellation=cancellation)
            batched.step()
        assert cancellation._callbacks == ()

    def test_nothing_is_kept_of_one_that_was_answered_before_anybody_waited_for_its_end(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        batched = Batched(BatchingOptions())
        cancellation = Cancellation()
        wait_for_it = Cancellation.when_cancelled

        def first_answer(self: Cancellation, callback: Callable[[], None]) -> None:
            batched.step()
            wait_for_it(self, callback)

        monkeypatch.setattr(Cancellation, "when_cancelled", first_answer)
        batched.send(1.0, cancellation=cancellation)
        assert cancellation._callbacks == ()

    def test_ten_thousand_given_up_at_once_leave_an_empty_queue(self):
        queue = QueueOptions(max_batch_size=1000, max_enqueued_batches=20)
        batched = Batched(BatchingOptions(queue))
        cancellations = [Cancellation() for _ in range(10_000)]
        results = [batched.send(1.0, cancellation=each) for each in cancellations]
        for cancellation in cancellations:
            cancellation.cancel()
        assert {error(each) for each in results} == {Cancelled}
        assert batched.step() == []


def test_without_priorities_queues_take_turns_however_long_they_have_waited():
    batched = Batched(BatchingOptions(QueueOptions(max_batch_size=1)))
    other = Batched(BatchingOptions(QueueOptions(max_batch_size=1)))
    later = BatchingServable(
        other.model,
        other.model,
        batched.scheduler,
        BatchingOptions(QueueOptions(max_batch_size=1)),
        batched.clock,
    )
    order: list[str] = []
    feeds = {"x:0": np.zeros(1, np.float32)}
    for _ in range(3):
        batched.servable.run(feeds, ["y:0"], RunOptions(), lambda _: order.append("early"))
    batched.clock.advance(5)
    for _ in range(3):
        later.run(feeds, ["y:0"], RunOptions(), lambda _: order.append("late"))
    batched.step()
    assert order == ["early", "late"] * 3


class TestPriorities:
    def test_requests_of_a_higher_priority_go_first(self):
        batched = Batched(BatchingOptions(honor_priorities=True))
        batched.send(1.0, priority=Priority.LOW)
        batched.send(2.0, priority=Priority.NORMAL)
        batched.send(3.0, priority=Priority.HIGH)
        assert batched.step() == [[3.0], [2.0], [1.0]]

    def test_one_that_waited_for_too_long_has_its_turn_among_them(self):
        options = BatchingOptions(
            QueueOptions(max_batch_size=1), honor_priorities=True, max_priority_wait_micros=500_000
        )
        batched = Batched(options)
        batched.model.seconds = 0.3
        batched.send(0.0, priority=Priority.LOW)
        for _ in range(6):
            batched.send(1.0, priority=Priority.HIGH)
        assert batched.step().index([0.0]) in (2, 3)

    def test_where_they_are_not_honored_they_share_a_batch(self):
        batched = Batched(BatchingOptions())
        for priority in Priority:
            batched.send(1.0, priority=priority)
        assert batched.step() == [[1.0, 1.0, 1.0]]

    def test_they_are_nothing_to_versions_that_do_not_honor_them(self):
        honoring = Batched(BatchingOptions(QueueOptions(max_batch_size=1), honor_priorities=True))
        plain = BatchingServable(
            honoring.model,
            honoring.model,
            honoring.scheduler,
            BatchingOptions(QueueOptions(max_batch_size=1)),
            honoring.clock,
        )
        for _ in range(5):
            honoring.send(1.0, priority=Priority.HIGH)
        plain.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), lambda _: None)
        assert [0.0] in honoring.step()[:2]

    def test_what_waited_when_they_came_to_be_honored_has_its_turn_too(self):
        plain = QueueOptions(max_batch_size=1)
        batched = Batched(BatchingOptions(plain))
        batched.send(0.0)
        batched.servable.reconfigure(BatchingOptions(plain, honor_priorities=True))
        for _ in range(5):
            batched.send(1.0, priority=Priority.HIGH)
        assert [0.0] in batched.step()[:2]


class TestReconfiguring:
    def test_new_requests_follow_the_new_options_and_those_before_the_old(self):
        batched = Batched(BatchingOptions(QueueOptions(max_batch_size=2)))
        for row in (1.0, 2.0, 3.0):
            batched.send(row)
        batched.servable.reconfigure(BatchingOptions(QueueOptions(max_batch_size=4)))
        for row in (4.0, 5.0, 6.0):
            batched.send(row)
        assert sorted(batched.step()) == [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]

    def test_what_waits_for_more_waits_no_longer(self):
        batched = Batched(BatchingOptions(QueueOptions(batch_timeout_micros=10**9)))
        batched.send(1.0)
        batched.servable.reconfigure(BatchingOptions())
        assert batched.step() == [[1.0]]

    def test_closing_answers_what_waits_in_former_queues_too(self):
        batched = Batched(BatchingOptions(QueueOptions(batch_timeout_micros=10**9)))
        before = batched.send(1.0)
        batched.servable.reconfigure(BatchingOptions(adaptive=True))
        after = batched.send(2.0)
        closing = threading.Thread(target=batched.servable.close)
        closing.start()
        while closing.is_alive():
            batched.step()
        assert len(before) == len(after) == 1

    def test_batching_can_become_adaptive_and_fixed_again(self):
        batched = Batched(BatchingOptions())
        batched.model.seconds = 1.0
        for adaptive, batches in ((True, [[1.0], [2.0, 3.0]]), (False, [[1.0, 2.0, 3.0]])):
            batched.servable.reconfigure(BatchingOptions(adaptive=adaptive))
            for row in (1.0, 2.0, 3.0):
                batched.send(row)
            assert batched.step() == batches

    def test_what_waits_is_padded_as_was_said_before(self):
        batched = Batched(BatchingOptions(allowed_batch_sizes=(4, 1000)))
        batched.send(1.0)
        batched.servable.reconfigure(BatchingOptions())
        assert batched.step() == [[1.0] * 4]

    def test_one_that_is_closed_has_no_more_queues(self):
        batched = Batched(BatchingOptions())
        batched.servable.close()
        batched.servable.reconfigure(BatchingOptions(adaptive=True))
        assert not batched.scheduler._lanes


def test_what_is_not_admitted_is_told_when_to_come_again():
    batched = Batched(
        BatchingOptions(QueueOptions(max_batch_size=1), admission=Admission(1_000_000))
    )
    batched.model.seconds = 1.0
    batched.send(1.0)
    batched.step()
    batched.send(2.0)
    batched.send(3.0)
    (refused,) = batched.send(4.0)
    assert isinstance(refused, ResourceExhausted)
    assert refused.retry_after_seconds == pytest.approx(2.0)


class TestWaitingForMoreWhereWaitsAreBounded:
    """Refusing what comes first would refuse what would have filled the batch."""

    def test_a_batch_closes_early_enough_for_its_first_deadline(self):
        queue = QueueOptions(max_batch_size=4, batch_timeout_micros=3_000_000)
        batched = Batched(BatchingOptions(queue, admission=Admission()))
        batched.model.seconds = 1.0
        batched.send(0.0, 0.0, 0.0, 0.0)
        batched.step()
        results = batched.send(1.0, deadline=batched.in_seconds(2))
        batched.clock.advance(0.9)
        assert batched.step() == [[1.0]]
        assert error(results) is list

    @pytest.mark.parametrize("deadline", [1.2, 1.4])
    def test_what_adaptive_batches_wait_makes_nobody_late(self, deadline: float):
        batched = Batched(BatchingOptions(adaptive=True, admission=Admission()))
        batched.model.seconds = 1.0
        for _ in range(7):
            batched.send(0.0)
        batched.step()
        while batched.servable.waiting_rows():
            batched.clock.advance(0.1)
            batched.step()
        asked = batched.in_seconds(deadline)
        results = batched.send(1.0, deadline=asked)
        assert batched.step() == []  # it waits for those that may come
        while not results:
            batched.clock.advance(0.01)
            batched.step()
        assert error(results) is list
        assert batched.clock.monotonic() <= asked

    def test_it_is_bounded_as_every_wait(self):
        queue = QueueOptions(max_batch_size=4, batch_timeout_micros=3_000_000)
        batched = Batched(BatchingOptions(queue, admission=Admission(500_000)))
        batched.send(1.0)
        batched.clock.advance(0.4)
        assert batched.step() == []
        batched.clock.advance(0.1)
        assert batched.step() == [[1.0]]


class OneAtATime(FakeServable):
    """Looks, in each of its runs, whether there is a batch to run for another thread."""

    max_runs = 1

    def __init__(self) -> None:
        super().__init__()
        self.others: list[bool] = []

    def run(
        self,
        feeds: dict[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        self.others.append(self.scheduler.run_once())
        super().run(feeds, fetches, options, done)


@pytest.mark.parametrize("reconfigured", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
def test_no_thread_waits_with_a_batch_for_a_model_that_runs_no_more_at_once(
    adaptive: bool, reconfigured: bool
):
    model, clock = OneAtATime(), FakeClock()
    model.scheduler = SharedBatchScheduler(SchedulerOptions(4), clock)
    options = BatchingOptions(QueueOptions(max_batch_size=1), adaptive=adaptive)
    before = BatchingOptions() if reconfigured else options
    batched = BatchingServable(model, model, model.scheduler, before, clock)
    batched.reconfigure(options)
    for _ in range(3):
        batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), lambda _: None)
    while model.scheduler.run_once():
        pass
    assert model.others == [False] * 3


def test_what_clients_choose_leaves_each_priority_of_a_signature_its_queue(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(batching_session, "_MOST_QUEUES_OF_REQUESTS", 1)
    batched = Batched(BatchingOptions(honor_priorities=True))
    feeds = {"x:0": np.zeros(1, np.float32)}
    batched.servable.run(feeds, ["other:0"], RunOptions(), lambda _: None)
    results = [batched.send(1.0, priority=priority) for priority in Priority]
    assert results == [[]] * len(Priority)  # all of them wait in queues
    batched.step()
    assert [error(each) for each in results] == [list] * len(Priority)
