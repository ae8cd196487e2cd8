"""Deadlines in a batching queue: who is late, who has given up, and who is not admitted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clocked_batches import Batched, error

from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
)
from serving.core.cancellation import Cancellation
from serving.core.errors import (
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
    ServingError,
    Unavailable,
)


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
