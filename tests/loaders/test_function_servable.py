"""A version that is one function: requests are checked first, and whatever happens is answered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from serving.core.dtypes import DType
from serving.core.errors import DeadlineExceeded, Internal, InvalidArgument
from serving.core.servable import Outputs, RunOptions, Signature, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.function_servable import Compute, FunctionServable

X = np.array([1.0, 2.0])
SIGNATURE = Signature(
    inputs={"x": TensorInfo("x", DType.DOUBLE, (None,))},
    outputs={"y": TensorInfo("y", DType.STRING, (None,))},
)


def servable(compute: Compute) -> FunctionServable:
    return FunctionServable(ServableId("m", 1), SIGNATURE, compute, refusals=(ValueError,))


def raising(error: Exception) -> FunctionServable:
    def compute(_feeds: Mapping[str, np.ndarray], _fetches: Sequence[str]) -> Outputs:
        raise error

    return servable(compute)


def test_text_is_answered_as_bytes_and_feeds_are_aligned():
    seen: list[bool] = []

    def compute(feeds: Mapping[str, np.ndarray], _fetches: Sequence[str]) -> Outputs:
        seen.append(feeds["x"].flags.aligned)
        return [np.array(["ü", "b"])]

    unaligned = np.ndarray((2,), np.float64, b"\0" + X.tobytes(), 1)
    (output,) = run_and_wait(servable(compute), {"x": unaligned}, ["y"])
    assert output.tolist() == ["ü".encode(), b"b"]
    assert seen == [True]


def test_bytes_are_answered_as_they_are():
    """Strings are fed so, and any function may hand one back."""

    def compute(_feeds: Mapping[str, np.ndarray], _fetches: Sequence[str]) -> Outputs:
        return [np.array([b"abc", b"\xff", "text", 1.5], np.object_)]

    (output,) = run_and_wait(servable(compute), {"x": X}, ["y"])
    assert output.tolist() == [b"abc", b"\xff", b"text", b"1.5"]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": np.float32([1])}, "input 'x' must be double, not float"),
        ({"x": np.ones((1, 1))}, "input 'x' must have the shape [?], not [1,1]"),
        ({"z": X}, "the model's inputs are x, not z"),
    ],
)
def test_wrong_inputs_never_reach_the_function(feeds: Mapping[str, np.ndarray], message: str):
    with pytest.raises(InvalidArgument) as raised:
        run_and_wait(raising(AssertionError("it was called")), feeds, ["y"])
    assert raised.value.message == message


def test_what_the_framework_refuses_is_the_requests_fault():
    with pytest.raises(InvalidArgument, match="no NaN, please"):
        run_and_wait(raising(ValueError("no NaN, please")), {"x": X}, ["y"])


def test_any_other_error_is_a_defect_whose_text_stays_in_the_log(caplog):
    with pytest.raises(Internal) as raised:
        run_and_wait(raising(KeyError("/secret/path")), {"x": X}, ["y"])
    assert raised.value.message == "the run failed unexpectedly"
    assert "/secret/path" in caplog.text


def test_a_run_whose_deadline_has_passed_is_not_begun():
    late = RunOptions(deadline=time.monotonic() - 1)
    with pytest.raises(DeadlineExceeded):
        run_and_wait(raising(AssertionError("it was called")), {"x": X}, ["y"], late)
