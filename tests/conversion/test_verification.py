"""Two models answer the same, or what they differ in is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from serving.conversion.verification import Tolerance, verify
from serving.core.dtypes import DType
from serving.core.errors import DataLoss, FailedPrecondition
from serving.core.servable import Signature, TensorInfo
from serving.testing import FakeServable


def model(
    compute: Callable[[np.ndarray], np.ndarray],
    dtype: DType = DType.FLOAT,
    output: str = "y",
    name: str = "serving_default",
) -> FakeServable:
    """Of one input ``x`` of rows."""
    signature = Signature(
        {"x": TensorInfo("x:0", dtype, (None, 3))}, {output: TensorInfo("y:0", dtype, (None, 3))}
    )
    return FakeServable(lambda feeds: {"y:0": compute(feeds["x:0"])}, {name: signature})


def doubled(x: np.ndarray) -> np.ndarray:
    return 2 * x


def test_models_that_answer_alike_are_told_how_often():
    verified = verify(model(doubled), model(lambda x: x + x), Tolerance())
    assert verified.requests == 15
    assert verified.signatures == ["serving_default"]
    assert verified.largest_difference == 0


def test_requests_are_random_and_of_several_sizes():
    seen = []

    def watched(x):
        seen.append(x)
        return x

    verify(model(watched), model(lambda x: x), Tolerance())
    assert {len(x) for x in seen} == {1, 2, 7}
    compared = seen[-15:]  # before them, sizes are tried
    assert len({x.tobytes() for x in compared}) == len(compared)


def test_the_largest_difference_within_the_tolerance_is_told():
    verified = verify(model(doubled), model(lambda x: 2 * x + 0.25), Tolerance(0, 0.5))
    assert verified.largest_difference == pytest.approx(0.25)


def test_a_difference_beyond_the_tolerance_is_an_error():
    with pytest.raises(DataLoss, match=r"values of y of serving_default differ, by up to 0\.25"):
        verify(model(doubled), model(lambda x: 2 * x + 0.25), Tolerance())


def test_one_value_of_many_is_enough():
    def nearly(x):
        return np.where(np.arange(x.size).reshape(x.shape) == x.size - 1, 2 * x + 1, 2 * x)

    with pytest.raises(DataLoss, match="1 of 3 values"):
        verify(model(doubled), model(nearly), Tolerance())


@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.INT64])
@pytest.mark.parametrize(("low", "high"), [(100, 200), (-200, -100), (500, 1000)])
def test_a_difference_far_from_zero_is_found(dtype: DType, low: int, high: int):
    """One leaf of a tree on features that nobody scaled."""

    def leaves(x: np.ndarray, there: int) -> np.ndarray:
        return np.where((x >= low) & (x < high), there, 1).astype(x.dtype)

    source = model(lambda x: leaves(x, 5), dtype)
    assert verify(source, model(lambda x: leaves(x, 5), dtype), Tolerance()).requests == 15
    with pytest.raises(DataLoss):
        verify(source, model(lambda x: leaves(x, 6), dtype), Tolerance())


def test_sums_of_large_numbers_may_be_rounded():
    """Floating-point sums depend on the order: their error is that of what cancels out."""
    once = np.array([1 / 3, -1 / 3, 1 / 7], np.float32)

    def other(x: np.ndarray) -> np.ndarray:
        return np.repeat((x.astype(np.float64) @ once).astype(np.float32)[:, None], 3, 1)

    def summed(x: np.ndarray) -> np.ndarray:
        return np.repeat(((x * once)[:, 2] + (x * once)[:, 0] + (x * once)[:, 1])[:, None], 3, 1)

    assert verify(model(summed), model(other), Tolerance()).requests == 15


def test_whole_numbers_fit_their_type():
    for dtype in (DType.UINT8, DType.INT8):
        seen: list[np.ndarray] = []
        source = model(lambda x, seen=seen: seen.append(x) or x, dtype)
        verify(source, model(lambda x: x, dtype), Tolerance())
        values = np.concatenate([x.ravel() for x in seen])
        assert values.max() > 100
        assert (values.min() < -100) == (dtype is DType.INT8)


def test_whole_numbers_have_to_be_equal():
    with pytest.raises(DataLoss, match="y of serving_default is"):
        verify(
            model(doubled, DType.INT64), model(lambda x: 2 * x + 1, DType.INT64), Tolerance(9, 9)
        )


def test_shapes_have_to_be_equal():
    with pytest.raises(DataLoss, match=r"has shape \[1\], not \[1, 3\]"):
        verify(model(doubled), model(lambda x: x[:, 0]), Tolerance())


def test_what_is_no_number_is_the_same_in_both():
    verify(model(lambda x: x * np.nan), model(lambda x: x * np.nan), Tolerance())
    with pytest.raises(DataLoss):
        verify(model(lambda x: x * np.nan), model(doubled), Tolerance())


def refusing(x: np.ndarray) -> np.ndarray:
    raise ValueError("refused")


def test_a_model_that_refuses_what_the_source_answers_is_another():
    with pytest.raises(DataLoss, match=r"the converted model refuses .*: refused"):
        verify(model(doubled), model(refusing), Tolerance())


def test_what_could_not_be_compared_is_no_success():
    for source, made in (
        (model(refusing), model(doubled)),
        (model(doubled), model(doubled, name="other")),
        (model(doubled), model(doubled, output="other")),
    ):
        with pytest.raises(FailedPrecondition, match="could not be compared"):
            verify(source, made, Tolerance())


def test_what_only_the_source_has_is_told():
    source = model(doubled)
    source.signatures = {**source.signatures, "more": source.signatures["serving_default"]}
    verified = verify(source, model(doubled), Tolerance())
    assert verified.left_out == ["signature more"]


def test_numbers_that_a_model_can_not_look_up_are_not_asked_for():
    """A table of two rows."""
    table = np.array([3, 4])
    source = model(lambda x: table[x], DType.INT64)

    def looked_up(feeds):
        if feeds["x:0"].max() > 1 or feeds["x:0"].min() < 0:
            raise ValueError("no such row")
        return {"y:0": table[feeds["x:0"]]}

    source = FakeServable(looked_up, source.signatures)
    assert verify(source, FakeServable(looked_up, source.signatures), Tolerance()).requests == 15
