"""What becomes of the requests of a batch that fails: all fail, or are retried in halves."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from batched_servable import UNEXPECTED, Batched, Feeds, Recorder, Result, error, values
from hypothesis import given
from hypothesis import strategies as st

from serving.batching.batch_runs import BatchRuns
from serving.batching.batching_options import BatchingOptions, QueueOptions
from serving.batching.batching_task import BatchingTask
from serving.batching.run_times import RunTimes
from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    IncompatibleShapes,
    IncompatibleTypes,
    Internal,
    InvalidArgument,
    OutOfRange,
    ServingError,
    Unavailable,
)
from serving.core.servable import (
    RunCallback,
    RunOptions,
)
from serving.testing import FakeClock, FakeServable


class Raising(FakeServable):
    """Breaks the contract of Servable.run."""

    def run(self, *arguments: object) -> None:
        raise RuntimeError("defect with a path /secret")


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


def fails(_feeds: Feeds) -> Feeds:
    raise ValueError("no such thing")


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector, which comes only when there are many objects."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def too_many_rows(_feeds: Feeds) -> Feeds:
    return {"y:0": np.ones(9)}


@pytest.mark.parametrize(
    ("servable", "sizes", "queue"),
    [
        (FakeServable(), (1, 1, 1), {"max_batch_size": 1, "max_enqueued_batches": 1}),
        (FakeServable(), (1, 2), {}),
        (FakeServable(fails), (1, 1), {}),
        (FakeServable(too_many_rows), (1, 1), {}),
    ],
    ids=["full queue", "shapes", "run", "outputs"],
)
def test_requests_that_failed_are_freed_with_their_answers(
    servable: FakeServable, sizes: Sequence[int], queue: dict[str, int]
):
    batched = Batched(servable, **queue)
    with uncollected():
        inputs = [np.ones((1, size)) for size in sizes]
        held = [weakref.ref(array) for array in inputs]
        results = [batched.send(array) for array in inputs]
        batched.step()
        assert isinstance(results[-1][0], ServingError)
        del inputs, results
        assert [ref() for ref in held] == [None] * len(held)


def test_a_request_that_failed_alone_is_freed_with_its_answer():
    options = BatchingOptions(QueueOptions())
    runs = BatchRuns(FakeServable(too_many_rows), ["y:0"], options, RunTimes(), FakeClock())
    with uncollected():
        array, results = np.ones(1), []
        held = weakref.ref(array)
        task = BatchingTask({"x:0": array}, ["y:0"], 1, RunOptions(), results.append, 0.0)
        runs.run_alone(task, task.answer)
        assert isinstance(results[0], ServingError)
        del array, task, results
        assert held() is None


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
