"""A batched servable: to its caller the same answers, to the servable fewer and larger runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from batched_servable import Batched, Feeds, Recorder, Result, error, values
from hypothesis import given
from hypothesis import strategies as st

from serving.batching import batching_session
from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.clock import SystemClock
from serving.core.dtypes import DType
from serving.core.errors import (
    InvalidArgument,
    Unavailable,
)
from serving.core.servable import (
    RunOptions,
    Signature,
    TensorInfo,
    run_and_wait,
)
from serving.core.servable_id import ServableId
from serving.loaders.hashmap_loader import HashmapPlatform
from serving.testing import FakeClock, FakeServable


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


def test_shapes_that_differ_are_padded_where_that_is_wanted():
    recorder = Recorder()
    batched = Batched(recorder, pad_variable_length_inputs=True)
    short, long = batched.send([[2.0]]), batched.send([[4.0, 6.0]])
    batched.step()
    assert values(short) == [[[3.0, 3.0]]]
    assert values(long) == [[[4.0, 5.0]]]
    assert recorder.rows == [2]


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
