"""A batched servable: to its caller the same answers, to the servable fewer and larger runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batching import batching_session
from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.clock import SystemClock
from serving.core.dtypes import DType
from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    IncompatibleShapes,
    IncompatibleTypes,
    Internal,
    InvalidArgument,
    OutOfRange,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving.core.servable import (
    Outputs,
    RunCallback,
    RunOptions,
    Servable,
    Signature,
    TensorInfo,
    run_and_wait,
)
from serving.core.servable_id import ServableId
from serving.loaders.hashmap_loader import HashmapPlatform
from serving.testing import FakeClock, FakeServable

Feeds = Mapping[str, np.ndarray]
Result = Outputs | ServingError
UNEXPECTED = "the run failed unexpectedly"


class Recorder(FakeServable):
    """A fake that remembers every run: rows, fetches, options."""

    def __init__(
        self,
        compute: Callable[[Feeds], Feeds] | None = None,
        signatures: Mapping[str, Signature] | None = None,
    ) -> None:
        super().__init__(compute, signatures)
        self.feeds: list[Feeds] = []
        self.fetches: list[Sequence[str]] = []
        self.options: list[RunOptions] = []

    def run(
        self, feeds: Feeds, fetches: Sequence[str], options: RunOptions, done: RunCallback
    ) -> None:
        self.feeds.append(feeds)
        self.fetches.append(fetches)
        self.options.append(options)
        super().run(feeds, fetches, options, done)

    @property
    def rows(self) -> list[int]:
        return [len(next(iter(feeds.values()))) for feeds in self.feeds]


class Raising(FakeServable):
    """Breaks the contract of Servable.run."""

    def run(self, *arguments: object) -> None:
        raise RuntimeError("defect with a path /secret")


class Batched:
    """A batched servable whose batches are run when :meth:`step` says so."""

    def __init__(
        self,
        servable: Servable,
        *,
        allowed_batch_sizes: tuple[int, ...] = (),
        pad_variable_length_inputs: bool = False,
        retry_failed_batch_in_halves: bool = False,
        adaptive: bool = False,
        **queue: int,
    ) -> None:
        self.clock = FakeClock()
        self.scheduler = SharedBatchScheduler(SchedulerOptions(1), self.clock)
        options = BatchingOptions(
            QueueOptions(**queue),
            allowed_batch_sizes,
            pad_variable_length_inputs,
            retry_failed_batch_in_halves,
            adaptive,
        )
        self.servable = BatchingServable(servable, servable, self.scheduler, options, self.clock)

    def send(
        self,
        x: object,
        fetches: Sequence[str] = ("y:0",),
        deadline: float | None = None,
    ) -> list[Result]:
        """Where the result of a run will be; ``x`` is the one input's value, or all feeds."""
        results: list[Result] = []
        feeds = x if isinstance(x, dict) else {"x:0": np.asarray(x)}
        self.servable.run(feeds, fetches, RunOptions(deadline), results.append)
        return results

    def step(self) -> None:
        while self.scheduler.run_once():
            pass


def values(results: list[Result]) -> list[object]:
    """The outputs of a run that was answered once, and well."""
    (result,) = results
    assert not isinstance(result, ServingError), result
    return [output.tolist() for output in result]


def error(results: list[Result]) -> tuple[type, str]:
    """The error of a run that was answered once."""
    (result,) = results
    assert isinstance(result, ServingError), result
    return type(result), result.message


def signature(inputs: Sequence[str], outputs: Sequence[str]) -> Signature:
    def tensors(names: Sequence[str]) -> dict[str, TensorInfo]:
        return {name: TensorInfo(f"{name}:0", DType.FLOAT, None) for name in names}

    return Signature(tensors(inputs), tensors(outputs))


def test_many_requests_are_one_run_and_each_gets_its_own_rows():
    recorder = Recorder()
    batched = Batched(recorder)
    first, second, third = batched.send([0.0]), batched.send([2.0, 4.0]), batched.send([6.0])
    assert first == second == third == []
    batched.step()
    assert [values(r) for r in (first, second, third)] == [[[2.0]], [[3.0, 4.0]], [[5.0]]]
    assert recorder.rows == [4]


@given(
    st.lists(st.integers(0, 6), max_size=20),
    st.booleans(),
    st.booleans(),
    st.integers(1, 6),
    st.sampled_from([(), (6,), (2, 6), (3, 6)]),
)
def test_whatever_the_sizes_and_limits_every_request_gets_its_own_answer(
    sizes: list[int], adaptive: bool, splitting: bool, execution: int, allowed: tuple[int, ...]
):
    batched = Batched(
        FakeServable(),
        max_batch_size=6,
        max_enqueued_batches=1000,
        enable_large_batch_splitting=splitting,
        max_execution_batch_size=execution,
        allowed_batch_sizes=allowed,
        adaptive=adaptive,
    )
    inputs = [np.arange(size) + 100.0 * number for number, size in enumerate(sizes)]
    results = [batched.send(x) for x in inputs]
    batched.step()
    assert [values(r) for r in results] == [[(x / 2 + 2).tolist()] for x in inputs]


def test_outputs_come_in_the_order_asked_for_and_as_often():
    def both(feeds: Feeds) -> Feeds:
        return {"y:0": feeds["x:0"] + 1, "z:0": feeds["x:0"] + 2}

    recorder = Recorder(both)
    batched = Batched(recorder)
    first = batched.send([0], ("y:0", "z:0"))
    second = batched.send([10], ("z:0", "y:0", "z:0"))
    batched.step()
    assert values(first) == [[1], [2]]
    assert values(second) == [[12], [11], [12]]
    assert recorder.fetches == [("y:0", "z:0")]


def test_a_batch_lies_in_memory_of_the_servables_own_where_it_has_some():
    supplied: list[np.ndarray] = []

    class Supplying(Recorder):
        def input_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
            supplied.append(np.empty(shape, dtype))
            return supplied[-1]

    recorder = Supplying()
    batched = Batched(recorder)
    first, second = batched.send([1.0]), batched.send([2.0, 3.0])
    batched.step()
    assert recorder.feeds[0]["x:0"] is supplied[0]
    assert [values(results) for results in (first, second)] == [[[2.5]], [[3.0, 3.5]]]
    batched.send([4.0])
    batched.step()
    assert len(supplied) == 1  # a request alone is its batch


def test_other_inputs_or_outputs_are_other_batches():
    def all_of(feeds: Feeds) -> Feeds:
        total = sum(feeds.values())
        return {"y:0": total, "z:0": -total}

    recorder = Recorder(all_of, {"s": signature(["x"], ["y", "z"])})
    batched = Batched(recorder)
    x = np.ones(1)
    for feeds, fetches in [
        ({"x:0": x}, ("y:0", "z:0")),
        ({"x:0": x}, ("y:0",)),
        ({"x:0": x, "w:0": x}, ("y:0",)),
        ({"w:0": x, "x:0": x}, ("y:0",)),
        ({"x:0": x}, ("z:0", "y:0")),
    ]:
        batched.send(feeds, fetches)
    batched.step()
    runs = [
        (sorted(f), recorder.fetches[i], recorder.rows[i]) for i, f in enumerate(recorder.feeds)
    ]
    assert sorted(runs) == [
        (["w:0", "x:0"], ("y:0",), 2),
        (["x:0"], ("y:0",), 1),
        (["x:0"], ("y:0", "z:0"), 2),
    ]


def test_signatures_over_the_same_tensors_share_their_batches():
    recorder = Recorder(signatures={"a": signature(["x"], ["y"]), "b": signature(["x"], ["y"])})
    batched = Batched(recorder)
    assert batched.servable.signatures is recorder.signatures
    batched.send([1.0])
    batched.send([2.0])
    batched.step()
    assert recorder.rows == [2]


def test_two_servables_never_share_a_batch():
    scheduler = SharedBatchScheduler(SchedulerOptions(1), FakeClock())
    recorders = [Recorder(), Recorder(lambda feeds: {"y:0": -feeds["x:0"]})]
    results: list[Result] = []
    for recorder in recorders:
        one = BatchingServable(recorder, recorder, scheduler, BatchingOptions(), FakeClock())
        one.run({"x:0": np.ones(1)}, ["y:0"], RunOptions(), results.append)
    while scheduler.run_once():
        pass
    assert [recorder.rows for recorder in recorders] == [[1], [1]]
    assert [values([result]) for result in results] == [[[2.5]], [[-1.0]]]


def test_beyond_a_bound_new_combinations_of_outputs_run_unbatched(monkeypatch: pytest.MonkeyPatch):
    """Otherwise clients could have the server make queues without end."""
    monkeypatch.setattr(batching_session, "_MOST_QUEUES_OF_REQUESTS", 1)

    def many(feeds: Feeds) -> Feeds:
        return {"y:0": feeds["x:0"], "a:0": feeds["x:0"], "b:0": feeds["x:0"]}

    batched = Batched(Recorder(many))
    queued = batched.send([1], ("a:0",))
    unbatched = batched.send([1], ("b:0",))
    known = batched.send([1], ("a:0",))
    assert values(unbatched) == [[1]]
    assert queued == known == []
    batched.step()
    assert values(queued) == values(known) == [[1]]


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        (
            {"x:0": np.array(1.0)},
            "Batching Run() input tensors must have at least one dimension",
        ),
        (
            {"x:0": np.ones(1), "w:0": np.ones(2)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ({"x:0": np.ones(9)}, "Task size 9 is larger than maximum input batch size 8"),
    ],
)
def test_a_request_that_cannot_be_batched_is_refused_at_once(feeds: Feeds, text: str):
    recorder = Recorder()
    batched = Batched(recorder, max_batch_size=8)
    assert error(batched.send(feeds)) == (InvalidArgument, text)
    batched.step()
    assert recorder.rows == []


def test_a_full_queue_refuses_and_keeps_what_it_has():
    batched = Batched(Recorder(), max_batch_size=1, max_enqueued_batches=1)
    accepted, refused = batched.send([0.0]), batched.send([0.0])
    assert error(refused) == (
        Unavailable,
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches "
        "enqueued and max_enqueued_batches is 1",
    )
    batched.step()
    assert values(accepted) == [[2.0]]


def test_shapes_that_differ_fail_every_task_of_the_batch():
    batched = Batched(Recorder(), max_batch_size=3)
    tasks = [batched.send(np.ones((1, n))) for n in (1, 2, 1)]
    after = batched.send(np.ones((1, 2)))
    batched.step()
    for task in tasks:
        assert error(task) == (
            IncompatibleShapes,
            "Tensors with name 'x:0' from different tasks have different shapes and padding is "
            "turned off. Set pad_variable_length_inputs to true, or ensure that all tensors with "
            "the same name have equal dimensions starting with the first dim.",
        )
    assert values(after) == [[[2.5, 2.5]]]


def test_shapes_that_differ_are_padded_where_that_is_wanted():
    recorder = Recorder()
    batched = Batched(recorder, pad_variable_length_inputs=True)
    short, long = batched.send([[2.0]]), batched.send([[4.0, 6.0]])
    batched.step()
    assert values(short) == [[[3.0, 3.0]]]
    assert values(long) == [[[4.0, 5.0]]]
    assert recorder.rows == [2]


def test_element_types_that_differ_fail_every_task_of_the_batch():
    batched = Batched(Recorder())
    tasks = [batched.send(np.ones(1, dtype)) for dtype in (np.float32, np.float64)]
    batched.step()
    for task in tasks:
        assert error(task) == (
            IncompatibleTypes,
            "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that "
            "have different data types. Got float and double.",
        )


def test_a_batch_is_filled_up_to_an_allowed_size_and_nobody_sees_the_filling():
    recorder = Recorder()
    batched = Batched(recorder, max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
    first, second = batched.send([0.0]), batched.send([2.0, 4.0])
    batched.step()
    assert recorder.feeds[0]["x:0"].tolist() == [0.0, 2.0, 4.0, 2.0]
    assert values(first) == [[2.0]]
    assert values(second) == [[3.0, 4.0]]


def test_requests_without_rows_are_answered_without_rows():
    batched = Batched(Recorder(), max_batch_size=4, allowed_batch_sizes=(2, 4))
    alone = batched.send(np.ones(0))
    batched.step()
    beside, other = batched.send(np.ones(0)), batched.send([2.0])
    batched.step()
    assert values(alone) == values(beside) == [[]]
    assert values(other) == [[3.0]]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (
            np.ones(1),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
        (
            np.ones((3, 1)),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_an_output_that_is_not_of_the_batchs_rows_fails_every_task(output: object, text: str):
    batched = Batched(Recorder(lambda _: {"y:0": np.asarray(output)}))
    tasks = [batched.send([1.0]), batched.send([2.0])]
    batched.step()
    assert [error(task) for task in tasks] == [(FailedPrecondition, text)] * 2


def test_the_error_of_a_run_is_every_tasks():
    def fail(feeds: Feeds) -> Feeds:
        raise ValueError("no such thing")

    batched = Batched(Recorder(fail))
    tasks = [batched.send([1.0]), batched.send([2.0])]
    batched.step()
    assert [error(task) for task in tasks] == [(InvalidArgument, "no such thing")] * 2


def test_a_servable_that_raises_is_an_internal_error_without_its_words(
    caplog: pytest.LogCaptureFixture,
):
    batched = Batched(Raising())
    tasks = [batched.send([1.0]), batched.send([2.0])]
    batched.step()
    assert [error(task) for task in tasks] == [(Internal, UNEXPECTED)] * 2
    assert "/secret" in caplog.text


def test_too_few_outputs_are_an_internal_error():
    class Forgetful(FakeServable):
        def run(self, feeds: Feeds, fetches: object, options: object, done: RunCallback) -> None:
            done([])

    batched = Batched(Forgetful())
    task = batched.send([1.0])
    batched.step()
    assert error(task) == (Internal, "Wrong number of batched output tensors")


@pytest.mark.parametrize(
    ("deadlines", "effective"), [([1.0, 3.0, 2.0], 3.0), ([1.0, None, 2.0], None)]
)
def test_a_batch_runs_with_the_latest_deadline(
    deadlines: list[float | None], effective: float | None
):
    recorder = Recorder()
    batched = Batched(recorder)
    start = batched.clock.monotonic()
    points = [None if after is None else start + after for after in deadlines]
    tasks = [batched.send([0.0], deadline=point) for point in points]
    batched.clock.advance(0.5)
    batched.step()
    assert [values(task) for task in tasks] == [[[2.0]]] * len(tasks)
    assert recorder.options == [RunOptions(None if effective is None else start + effective)]


EXPIRED = "Run() timeout exceeded while waiting in batching queue"


@pytest.mark.parametrize("other", [3.0, None])
def test_a_request_whose_deadline_passed_in_the_queue_runs_with_those_in_time(
    other: float | None,
):
    """As in TensorFlow Serving."""
    recorder = Recorder()
    batched = Batched(recorder)
    start = batched.clock.monotonic()
    late = batched.send([2.0], deadline=start + 1)
    in_time = batched.send([0.0], deadline=other and start + other)
    batched.clock.advance(2)
    batched.step()
    assert (values(late), values(in_time)) == ([[3.0]], [[2.0]])
    assert recorder.options == [RunOptions(other and start + other)]


@pytest.mark.parametrize("other", [3.0, None])
def test_where_deadlines_are_minded_it_is_left_out_of_its_batch(other: float | None):
    recorder = Recorder()
    batched = Batched(recorder, max_batch_size=8, allowed_batch_sizes=(2, 8), deadline_aware=True)
    start = batched.clock.monotonic()
    late = batched.send(np.ones(3), deadline=start + 1)
    in_time = batched.send([0.0], deadline=other and start + other)
    batched.clock.advance(2)
    batched.step()
    assert error(late)[0] is DeadlineExceeded
    assert values(in_time) == [[2.0]]
    assert recorder.feeds[0]["x:0"].tolist() == [0.0, 0.0]
    assert recorder.options == [RunOptions(other and start + other)]


def test_a_batch_of_which_every_deadline_is_past_is_not_run():
    recorder = Recorder()
    batched = Batched(recorder)
    start = batched.clock.monotonic()
    tasks = [batched.send([0.0], deadline=start + after) for after in (1.0, 2.0)]
    batched.clock.advance(2.0)
    batched.step()
    assert [error(task) for task in tasks] == [(ResourceExhausted, EXPIRED)] * 2
    assert recorder.rows == []


class Poisoned(Recorder):
    """Fails every run that has a negative value in it."""

    def __init__(
        self, failure: ServingError, compute: Callable[[Feeds], Feeds] | None = None
    ) -> None:
        super().__init__(compute)
        self.failure = failure

    def run(
        self, feeds: Feeds, fetches: Sequence[str], options: RunOptions, done: RunCallback
    ) -> None:
        poisoned = (feeds["x:0"] < 0).any()
        super().run(feeds, fetches, options, lambda r: done(self.failure if poisoned else r))


@pytest.mark.parametrize(
    "failure", [InvalidArgument("x < 0"), OutOfRange("x < 0"), Internal("x < 0")]
)
def test_a_batch_is_retried_in_halves_so_that_only_requests_at_fault_fail(failure: ServingError):
    recorder = Poisoned(failure)
    batched = Batched(recorder, retry_failed_batch_in_halves=True)
    good = [batched.send([0.0]) for _ in range(5)]
    bad = batched.send([-1.0])
    good += [batched.send([0.0, 0.0]) for _ in range(2)]
    batched.step()
    assert error(bad) == (type(failure), "x < 0")
    assert [values(task) for task in good] == [[[2.0]]] * 5 + [[[2.0, 2.0]]] * 2
    assert recorder.rows == [10, 4, 6, 2, 1, 1, 4]


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_retries_are_bounded_whoever_is_at_fault(at_fault: list[bool]):
    recorder = Poisoned(InvalidArgument("x < 0"))
    batched = Batched(recorder, retry_failed_batch_in_halves=True)
    tasks = [batched.send([-1.0 if bad else 0.0]) for bad in at_fault]
    batched.step()
    assert [isinstance(result, ServingError) for (result,) in tasks] == at_fault
    assert len(recorder.rows) <= 2 * len(at_fault) - 1
    depth = (len(at_fault) - 1).bit_length()
    assert len(recorder.rows) <= 1 + 2 * depth * sum(at_fault)


def test_a_failed_batch_is_not_retried_unless_that_is_wanted():
    recorder = Poisoned(InvalidArgument("x < 0"))
    batched = Batched(recorder)
    tasks = [batched.send([x]) for x in (0.0, -1.0)]
    batched.step()
    assert [error(task) for task in tasks] == [(InvalidArgument, "x < 0")] * 2
    assert recorder.rows == [2]


@pytest.mark.parametrize("failure", [Unavailable("no"), FailedPrecondition("no")])
def test_an_error_of_the_models_own_is_not_retried(failure: ServingError):
    recorder = Poisoned(failure)
    batched = Batched(recorder, retry_failed_batch_in_halves=True)
    tasks = [batched.send([x]) for x in (0.0, -1.0)]
    batched.step()
    assert [error(task) for task in tasks] == [(type(failure), "no")] * 2
    assert recorder.rows == [2]


def test_halves_are_retried_with_allowed_sizes_and_until_their_deadlines():
    def slow(feeds: Feeds) -> Feeds:
        batched.clock.advance(1)
        return {"y:0": feeds["x:0"]}

    recorder = Poisoned(InvalidArgument("x < 0"), slow)
    batched = Batched(
        recorder,
        retry_failed_batch_in_halves=True,
        max_batch_size=8,
        allowed_batch_sizes=(2, 8),
        deadline_aware=True,
    )
    bad = batched.send([-1.0])
    good = batched.send([0.0])
    late = batched.send([0.0], deadline=batched.clock.monotonic() + 1)
    last = batched.send([0.0])
    batched.step()
    assert recorder.rows == [8, 2, 2, 2, 2]
    assert error(bad)[0] is InvalidArgument
    assert values(good) == values(last) == [[0.0]]
    assert error(late)[0] is DeadlineExceeded


def test_requests_of_different_element_types_are_retried_apart():
    recorder = Recorder()
    batched = Batched(recorder, retry_failed_batch_in_halves=True)
    tasks = [batched.send(np.zeros(1, dtype)) for dtype in ("f4", "f4", "f4", "f8")]
    batched.step()
    assert [values(task) for task in tasks] == [[[2.0]]] * 4
    assert recorder.rows == [2, 1, 1]


def test_requests_of_different_shapes_are_retried_apart():
    recorder = Recorder()
    batched = Batched(recorder, retry_failed_batch_in_halves=True)
    tasks = [batched.send(np.zeros((1, width))) for width in (1, 1, 2, 1)]
    batched.step()
    assert [values(task) for task in tasks] == [[[[2.0] * width]] for width in (1, 1, 2, 1)]
    assert recorder.rows == [2, 1, 1]


def test_a_receiver_that_raises_costs_nobody_else_the_answer(caplog: pytest.LogCaptureFixture):
    batched = Batched(FakeServable())

    def fail(_: Result) -> None:
        raise RuntimeError("defect")

    batched.servable.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), fail)
    after = batched.send([0.0])
    batched.step()
    assert values(after) == [[2.0]]
    assert "the receiver of a batched run's result failed" in caplog.text


def splitting(servable: Servable, **more: bool) -> Batched:
    return Batched(
        servable,
        max_batch_size=8,
        enable_large_batch_splitting=True,
        max_execution_batch_size=2,
        **more,
    )


def test_a_large_request_runs_in_several_batches_and_is_answered_once():
    recorder = Recorder()
    batched = splitting(recorder)
    small, large, last = batched.send([0.0]), batched.send(np.arange(4.0)), batched.send([2.0])
    batched.step()
    assert recorder.rows == [2, 2, 2]
    assert values(small) == [[2.0]]
    assert values(large) == [[2.0, 2.5, 3.0, 3.5]]
    assert values(last) == [[3.0]]


def test_the_first_error_of_a_part_is_the_requests():
    runs: list[int] = []

    def fail_later(feeds: Feeds) -> Feeds:
        runs.append(len(runs))
        if len(runs) > 1:
            raise ValueError(f"run {len(runs)}")
        return {"y:0": feeds["x:0"]}

    batched = splitting(Recorder(fail_later))
    large = batched.send(np.arange(6.0))
    batched.step()
    assert runs == [0, 1, 2]
    assert error(large) == (InvalidArgument, "run 2")


def test_a_large_request_that_expires_between_its_batches_runs_no_further():
    recorder = Recorder()
    batched = splitting(recorder)
    large = batched.send(np.arange(4.0), deadline=batched.clock.monotonic() + 1)
    other = batched.send([2.0])
    assert batched.scheduler.run_once()
    batched.clock.advance(1)
    batched.step()
    assert recorder.rows == [2, 1]
    assert error(large) == (ResourceExhausted, EXPIRED)
    assert values(other) == [[3.0]]


def test_parts_whose_outputs_differ_in_shape_are_an_internal_error():
    batched = splitting(Recorder(), pad_variable_length_inputs=True)
    large = batched.send(np.ones((3, 1)))
    wide = batched.send(np.ones((1, 2)))
    batched.step()
    assert error(large)[0] is Internal
    assert error(large)[1].startswith("Tensor concat operation failed: ")
    assert values(wide) == [[[2.5, 2.5]]]


def test_answers_stay_as_they_are_when_later_batches_run():
    """The engine's outputs may share memory with what it was fed."""
    batched = Batched(Recorder(lambda feeds: {"y:0": feeds["x:0"]}))
    first = batched.send([1.0])
    other = batched.send([2.0])
    batched.step()
    for _ in range(3):
        batched.send([9.0])
        batched.send([9.0])
        batched.step()
    assert (values(first), values(other)) == ([[1.0]], [[2.0]])


def test_closing_answers_what_is_enqueued_then_closes_the_servable():
    open_when_run: list[bool] = []

    def note(feeds: Feeds) -> Feeds:
        open_when_run.append(not servable.closed)
        return {"y:0": feeds["x:0"], "z:0": feeds["x:0"]}

    servable = Recorder(note)
    batched = Batched(servable, max_batch_size=2, batch_timeout_micros=10**9)
    batched.scheduler.start()
    tasks = [batched.send([float(n)]) for n in range(3)]
    lazy = batched.send([7.0], ("z:0",))
    batched.servable.close()
    assert servable.closed
    assert open_when_run == [True] * 3
    assert [values(task) for task in (*tasks, lazy)] == [[[0.0]], [[1.0]], [[2.0]], [[7.0]]]
    assert error(batched.send([1.0]))[0] is Unavailable
    batched.scheduler.stop()


def test_a_servable_that_answers_on_another_thread_holds_the_batch_thread():
    """Else more batches would run at once than there are batch threads."""
    answer: list[Callable[[], None]] = []
    running = threading.Event()

    class Elsewhere(FakeServable):
        def run(self, *arguments: object) -> None:
            answer.append(lambda: FakeServable.run(self, *arguments))  # type: ignore[arg-type]  # those of run
            running.set()

    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    options = BatchingOptions(QueueOptions(max_batch_size=1))
    batched = BatchingServable(Elsewhere(), Elsewhere(), scheduler, options, clock)
    results: list[Result] = []
    for _ in range(2):
        batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), results.append)
    for _ in range(2):
        assert running.wait(30)
        running.clear()
        assert len(answer) == 1
        answer.pop()()
    batched.close()
    scheduler.stop()
    assert [values([result]) for result in results] == [[[2.0]]] * 2


class Hanging(FakeServable):
    """Answers nothing before :meth:`go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs, self._gate = threading.Event(), threading.Event()

    def run(self, *arguments: Any) -> None:
        self.hangs.set()
        assert self._gate.wait(30)
        super().run(*arguments)

    def go_on(self) -> None:
        self._gate.set()


def test_a_model_that_hangs_keeps_other_models_from_nothing():
    """It holds a batch thread, and its own queue alone fills up behind it."""
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(2), clock)
    scheduler.start()

    def batched(servable: Servable, **queue: int) -> BatchingServable:
        options = BatchingOptions(QueueOptions(**queue))
        return BatchingServable(servable, servable, scheduler, options, clock)

    hanging = Hanging()
    stuck = batched(hanging, max_enqueued_batches=1, max_batch_size=2, batch_timeout_micros=10**9)
    other, leaving = batched(FakeServable()), batched(FakeServable())
    feeds = {"x:0": np.zeros(2)}
    running: list[Result] = []
    queued: list[Result] = []
    refused: list[Result] = []
    stuck.run(feeds, ["y:0"], RunOptions(), running.append)
    assert hanging.hangs.wait(30)
    stuck.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), queued.append)
    stuck.run(feeds, ["y:0"], RunOptions(), refused.append)
    assert error(refused)[0] is Unavailable
    for _ in range(20):
        (y,) = run_and_wait(other, feeds, ["y:0"])
        assert y.tolist() == [2.0, 2.0]
    leaving.close()
    assert running == queued == []
    hanging.go_on()
    stuck.close()
    assert (values(running), values(queued)) == ([[2.0, 2.0]], [[2.0]])
    other.close()
    scheduler.stop()


def test_limits_may_be_as_large_as_numbers_are():
    """A timeout of 300,000 years is one that never comes; the end of the queue does."""
    clock, huge = SystemClock(), 2**63 - 1
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    options = BatchingOptions(QueueOptions(huge, huge, huge))
    batched = BatchingServable(FakeServable(), FakeServable(), scheduler, options, clock)
    results: list[Result] = []
    batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), results.append)
    batched.close()
    assert values(results) == [[2.0]]
    scheduler.stop()


@pytest.mark.parametrize("adaptive", [False, True])
def test_stopping_answers_what_waits_behind_a_model_that_hangs(adaptive: bool):
    """The thread that stops is not to hang with it."""
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    hanging = Hanging()
    options = BatchingOptions(QueueOptions(max_batch_size=1), adaptive=adaptive)
    stuck = BatchingServable(hanging, hanging, scheduler, options, clock)
    running: list[Result] = []
    queued: list[list[Result]] = [[], []]
    stuck.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(caller_may_wait=False), running.append)
    assert hanging.hangs.wait(30)
    for results in queued:
        stuck.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(caller_may_wait=False), results.append)
    scheduler.stop(grace_seconds=0.01)
    stopped = (Unavailable, "The server stopped before the request was run")
    assert [error(results) for results in queued] == [stopped, stopped]
    assert running == []
    hanging.go_on()
    stuck.close()
    assert values(running) == [[2.0]]


def test_what_is_queued_is_run_within_the_grace():
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
    scheduler.start()
    slow = Hanging()
    options = BatchingOptions(QueueOptions(max_batch_size=1))
    batched = BatchingServable(slow, slow, scheduler, options, clock)
    results: list[list[Result]] = [[], [], []]
    for each in results:
        batched.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), each.append)
    assert slow.hangs.wait(30)
    stopping = threading.Thread(target=scheduler.stop, args=(60,))
    stopping.start()
    slow.go_on()
    stopping.join(60)
    assert not stopping.is_alive()
    assert [values(each) for each in results] == [[[2.0]]] * 3
    batched.close()


def test_lookup_tables_are_batched_too(tmp_path: Path):
    (tmp_path / "table.csv").write_text("a,1\nb,2\n")
    clock = SystemClock()
    scheduler = SharedBatchScheduler(SchedulerOptions(2), clock)
    scheduler.start()
    table = HashmapPlatform().load(ServableId("m", 1), str(tmp_path))
    options = BatchingOptions(QueueOptions(max_batch_size=4), (2, 4))
    batched = BatchingServable(table, table, scheduler, options, clock)
    keys = np.array([b"b", b"?", b"a"], np.object_)
    found, looked_up = run_and_wait(batched, {"keys": keys}, ["found", "values"])
    assert found.tolist() == [True, False, True]
    assert looked_up.tolist() == [b"2", b"", b"1"]
    batched.close()
    scheduler.stop()
