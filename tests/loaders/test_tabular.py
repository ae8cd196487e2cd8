"""What is declared of a table's model has to be so, as far as a run with nothing can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import DEFAULT_SIGNATURE, Outputs, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.function_servable import Compute, FunctionServable
from serving.loaders.signature_file import DeclaredSignature
from serving.loaders.tabular import column_inputs, tabular_servable

X = np.ones((3, 2))


def servable(
    compute: Compute, outputs: Mapping[str, TensorInfo] | None, columns: int = 2
) -> FunctionServable:
    inputs = {"x": TensorInfo("x", DType.DOUBLE, (None, columns))}
    declared = DeclaredSignature(outputs=outputs)
    return tabular_servable(ServableId("m", 1), inputs, ["y"], compute, declared=declared)


def answering(value: Any) -> Compute:
    """Each row's answer."""

    def compute(feeds: Mapping[str, np.ndarray], _fetches: Sequence[str]) -> Outputs:
        return [np.array([value] * len(feeds["x"]))]

    return compute


def refusal(compute: Compute, outputs: Mapping[str, TensorInfo] | None, columns: int = 2) -> str:
    with pytest.raises(InvalidArgument) as raised:
        servable(compute, outputs, columns)
    return raised.value.message


def y(dtype: DType, *shape: int | None) -> Mapping[str, TensorInfo]:
    return {"y": TensorInfo("y", dtype, shape or None)}


@pytest.mark.parametrize(
    ("answer", "declared", "message"),
    [
        (
            "high",
            y(DType.FLOAT, None),
            "signature.json: outputs.y.dtype can not be float (could not convert string to float",
        ),
        (1, y(DType.FLOAT, None, 7), "signature.json: outputs.y.shape must be [null], as the"),
        ([1, 2], y(DType.INT64, None), "signature.json: outputs.y.shape must be [null, 2], as the"),
        (1, y(DType.INT64, 2), "signature.json: outputs.y.shape must be [null], as the"),
    ],
)
def test_what_contradicts_the_model_is_refused(
    answer: Any, declared: Mapping[str, TensorInfo], message: str
):
    assert refusal(answering(answer), declared).startswith(message)


@pytest.mark.parametrize("declared", [None, y(DType.STRING)])
@pytest.mark.parametrize("answer", [np.array("all rows"), np.array(["one"])])
def test_what_has_no_answer_for_each_row_is_refused(
    answer: np.ndarray, declared: Mapping[str, TensorInfo] | None
):
    message = refusal(lambda _feeds, _fetches: [answer], declared)
    assert f"y of 2 rows has the shape {list(answer.shape)}" in message


def test_what_is_declared_is_served_where_a_run_with_nothing_fails():
    """As that of a model which knows only some categories does."""

    def compute(feeds: Mapping[str, np.ndarray], _fetches: Sequence[str]) -> Outputs:
        if not feeds["x"].all():
            raise ValueError("an unknown category")
        return [feeds["x"].sum(axis=1)]

    made = servable(compute, y(DType.FLOAT, None))
    assert made.signatures[DEFAULT_SIGNATURE].outputs == y(DType.FLOAT, None)
    (output,) = run_and_wait(made, {"x": X}, ["y"])
    assert (output.dtype, output.tolist()) == (np.float32, [2, 2, 2])


@pytest.mark.parametrize(("answer", "text"), [(b"\xc3\xbc", "ü"), ("ü", "ü"), (1.5, "1.5")])
def test_everything_may_be_declared_a_string(answer: Any, text: str):
    (output,) = run_and_wait(servable(answering(answer), y(DType.STRING)), {"x": X}, ["y"])
    assert output.tolist() == [text.encode()] * 3


def test_more_features_than_fit_into_memory_are_the_files_fault():
    message = refusal(answering(1), None, 10**15)
    assert message.startswith("a run that was to find out the model's outputs failed: ")


def test_a_feature_of_its_own_has_one_value_in_a_row():
    declared = {
        "flat": TensorInfo("flat", DType.FLOAT, (None,)),
        "column": TensorInfo("column", DType.FLOAT, (None, 1)),
        "unsaid": TensorInfo("unsaid", DType.FLOAT, None),
    }
    shapes = [info.shape for info in column_inputs(declared).values()]
    assert shapes == [(None,), (None, 1), (None,)]
    with pytest.raises(InvalidArgument) as raised:
        column_inputs({"a": TensorInfo("a", DType.FLOAT, (None, 2))})
    assert raised.value.message == (
        "signature.json: inputs.a.shape must be [null], as it is one feature"
    )
