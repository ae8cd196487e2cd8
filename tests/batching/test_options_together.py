"""Deadlines, admission, priorities and cancellation at the same time, under any load."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
    SchedulerOptions,
)
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.cancellation import Cancellation
from serving.core.errors import Cancelled, DeadlineExceeded, ResourceExhausted, ServingError
from serving.core.priority import Priority
from serving.core.servable import Outputs, RunOptions
from serving.testing import FakeClock, FakeServable

RUN_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 2.0
LONGEST_PRIORITY_WAIT_SECONDS = 0.5
CLOSE = 1e-6


@dataclass(eq=False)
class Request:
    """What was asked, when, and what came of it; ``waiting_rows`` were queued then."""

    priority: Priority
    rows: int
    sent_at: float
    deadline: float
    waiting_rows: int
    cancellation: Cancellation = field(default_factory=Cancellation)
    given_up: bool = False
    answers: list[Outputs | ServingError] = field(default_factory=list)
    answered_at: float = math.nan

    @property
    def is_served(self) -> bool:
        return bool(self.answers) and not isinstance(self.answers[0], ServingError)


class Played:
    """A servable behind one batch thread, which runs when it is told to. Rows carry the number of
    their request; every batch takes as long as any other.
    """

    def __init__(self, *, adaptive: bool) -> None:
        self.clock = FakeClock()
        self.requests: list[Request] = []
        self.broken: list[str] = []
        self.turns: list[tuple[float, Priority]] = []
        """Of each priority: when a batch of its began, or some of it was found to be late."""
        options = BatchingOptions(
            QueueOptions(
                max_batch_size=4,
                batch_timeout_micros=300_000,
                max_enqueued_batches=1000,
                deadline_aware=True,
            ),
            adaptive=adaptive,
            admission=Admission(int(LONGEST_WAIT_SECONDS * 1e6)),
            honor_priorities=True,
            max_priority_wait_micros=int(LONGEST_PRIORITY_WAIT_SECONDS * 1e6),
        )
        self.scheduler = SharedBatchScheduler(SchedulerOptions(1), self.clock)
        model = FakeServable(self._run)
        self.servable = BatchingServable(model, model, self.scheduler, options, self.clock)

    def send(self, priority: Priority, rows: int, seconds: float | None) -> None:
        now, number = self.clock.monotonic(), len(self.requests)
        deadline = math.inf if seconds is None else now + seconds
        waiting = self.servable.waiting_rows()
        request = Request(priority, rows, now, deadline, waiting)
        self.requests.append(request)

        def done(answer: Outputs | ServingError) -> None:
            request.answers.append(answer)
            request.answered_at = self.clock.monotonic()
            if isinstance(answer, DeadlineExceeded):
                self.turns.append((request.answered_at, priority))

        options = RunOptions(
            None if seconds is None else deadline,
            request.cancellation,
            priority,
            caller_may_wait=False,
        )
        feeds = {"x:0": np.full(rows, float(number))}
        self.servable.run(feeds, ["y:0"], options, done)

    def give_up(self, number: int) -> None:
        if self.requests:
            request = self.requests[number % len(self.requests)]
            request.given_up = request.given_up or not request.answers
            request.cancellation.cancel()

    def end(self) -> None:
        while self.servable.waiting_rows():
            self.scheduler.run_once()
            self.clock.advance(0.125)

    def _run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        now = self.clock.monotonic()
        batch = [self.requests[int(number)] for number in dict.fromkeys(feeds["x:0"].tolist())]
        for request in batch:
            self._expect(request.deadline >= now, "run after its deadline")
            self._expect(not request.given_up, "run though nobody waited for it")
            self._expect(not request.answers, "run after it was answered")
        (priority,) = {request.priority for request in batch}
        self._check_turn(priority, min(request.sent_at for request in batch))
        self.turns.append((now, priority))
        self.clock.advance(RUN_SECONDS)
        return {"y:0": feeds["x:0"]}

    def _check_turn(self, priority: Priority, oldest: float) -> None:
        """Once it has waited for too long, each other priority has one turn before it at most."""
        overdue = oldest + LONGEST_PRIORITY_WAIT_SECONDS
        before: list[Priority] = []
        for began, other in reversed(self.turns):
            if other is priority or began < overdue + CLOSE:
                break
            before.append(other)
        runs = {(began, other) for began, other in self.turns[len(self.turns) - len(before) :]}
        self._expect(len(runs) < len(Priority), "kept from its turn")

    def _expect(self, is_so: bool, otherwise: str) -> None:
        """Not by an assertion: what a model raises is an answer."""
        if not is_so:
            self.broken.append(otherwise)


SENT = st.tuples(
    st.just("send"),
    st.sampled_from(Priority),
    st.integers(1, 4),
    st.sampled_from([None, None, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0]),
)
EVENTS = st.lists(
    st.one_of(
        SENT,
        SENT,
        SENT,
        st.tuples(st.just("give up"), st.integers(0, 100)),
        st.tuples(st.just("advance"), st.sampled_from([0.01, 0.125, 0.5])),
        st.tuples(st.just("run")),
    ),
    max_size=80,
)


def check_all(played: Played) -> None:
    assert played.broken == []
    for number, request in enumerate(played.requests):
        check(request, number)


def check(request: Request, number: int) -> None:
    (answer,) = request.answers  # none is lost, none is answered twice
    if isinstance(answer, ResourceExhausted) and request.answered_at == request.deadline:
        assert "timeout exceeded" in answer.message  # its turn came just then
    elif isinstance(answer, ResourceExhausted):
        # Were every row that waited a batch of its own, it would have to wait for so long.
        longest = request.waiting_rows * RUN_SECONDS
        most = min(LONGEST_WAIT_SECONDS, request.deadline - request.sent_at - RUN_SECONDS)
        assert request.answered_at == request.sent_at, "refused, but not at once"
        assert longest > 0, "refused, though nothing was before it"
        assert longest > most - CLOSE, "refused, though it had time enough"
    elif isinstance(answer, DeadlineExceeded):
        assert request.deadline < request.answered_at + RUN_SECONDS + CLOSE
    elif isinstance(answer, Cancelled):
        assert request.given_up
    else:
        assert not isinstance(answer, ServingError), answer
        assert answer[0].tolist() == [float(number)] * request.rows


@settings(max_examples=200)
@given(EVENTS, st.booleans())
def test_whatever_comes_each_rule_holds_beside_the_others(events: Sequence[tuple], adaptive: bool):
    played = Played(adaptive=adaptive)
    for event, *arguments in events:
        match event:
            case "send":
                played.send(*arguments)
            case "give up":
                played.give_up(*arguments)
            case "advance":
                played.clock.advance(*arguments)
            case _:
                played.scheduler.run_once()
    played.end()
    check_all(played)


def test_under_a_load_of_twice_what_can_be_done_every_priority_is_served_the_highest_most():
    """Eight rows come for each batch of four."""
    played = Played(adaptive=False)
    for number in range(400):
        played.send(list(Priority)[number % 3], 2, 3.0)
        if number % 4 == 3:
            played.scheduler.run_once()
    played.end()
    check_all(played)
    assert any(isinstance(one.answers[0], ResourceExhausted) for one in played.requests)
    served = Counter(one.priority for one in played.requests if one.is_served)
    assert served[Priority.HIGH] > served[Priority.NORMAL]
    assert served[Priority.LOW] >= 5
