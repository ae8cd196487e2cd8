"""Merging, padding and splitting tensors, without a queue or a servable."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest

from serving.batching.batch import (
    check_outputs,
    joined_outputs,
    merged,
    rounded_size,
    row_count,
    split_feeds,
    split_outputs,
)
from serving.core.errors import FailedPrecondition, Internal, InvalidArgument, ServingError

QINT8 = np.dtype([("qint8", np.int8)])


def zeros(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Float inputs ``a:0``, ``b:0`` … of these shapes."""
    return {f"{chr(97 + i)}:0": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}


def merge_one(
    tensors: Sequence[np.ndarray], size: int | None = None, *, pad: bool = False
) -> np.ndarray:
    rows = sum(map(len, tensors))
    return merged([{"x:0": t} for t in tensors], rows if size is None else size, pad=pad)["x:0"]


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [([(3,)], 3), ([(3,), (3, 2), (3, 0)], 3), ([(0, 7)], 0), ([(0,), (0, 2)], 0), ([(1,)], 1)],
)
def test_rows_are_the_common_size_of_dimension_0(shapes: list[tuple[int, ...]], rows: int):
    assert row_count(zeros(*shapes)) == rows


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ([], "Batching Run() must have at least one input tensor"),
        ([()], "Batching Run() input tensors must have at least one dimension"),
        ([(2,), ()], "Batching Run() input tensors must have at least one dimension"),
        ([(2,), (3,)], "Batching Run() input tensors must have equal 0th-dimension size"),
        ([(0,), (3,)], "Batching Run() input tensors must have equal 0th-dimension size"),
    ],
)
def test_inputs_without_common_rows_are_refused(shapes: list[tuple[int, ...]], text: str):
    with pytest.raises(InvalidArgument) as raised:
        row_count(zeros(*shapes))
    assert raised.value.message == text


@pytest.mark.parametrize(
    ("size", "allowed", "rounded"),
    [
        (3, (), 3),
        (1, (2, 4), 2),
        (2, (2, 4), 2),
        (3, (2, 4), 4),
        (5, (2, 4), 5),
        (1, (4, 2, 8), 4),
        (0, (2, 4), 0),
    ],
)
def test_a_size_is_rounded_to_the_first_allowed_one_that_holds_it(
    size: int, allowed: tuple[int, ...], rounded: int
):
    assert rounded_size(size, allowed) == rounded


def test_rows_of_all_tasks_come_in_order_and_names_sorted():
    tasks = [
        {"b:0": np.array([[1, 2]]), "a:0": np.array([10])},
        {"a:0": np.array([20, 30]), "b:0": np.array([[3, 4], [5, 6]])},
    ]
    result = merged(tasks, 3, pad=False)
    assert list(result) == ["a:0", "b:0"]
    assert result["a:0"].tolist() == [10, 20, 30]
    assert result["b:0"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_one_task_that_is_the_whole_batch_is_not_copied():
    tensor = np.arange(3)
    assert merge_one([tensor]) is tensor


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        ([[1], [2, 3]], 5, [1, 2, 3, 2, 2]),
        ([[7, 8]], 3, [7, 8, 7]),
        ([[1, 2], []], 4, [1, 2, 1, 1]),
        ([[9], [1, 2], [], []], 4, [9, 1, 2, 1]),
        ([[], []], 0, []),
    ],
)
def test_missing_rows_are_the_first_row_of_the_last_task_that_has_one(
    rows: list[list[int]], size: int, expected: list[int]
):
    assert merge_one([np.array(r, np.int64) for r in rows], size).tolist() == expected


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.bool_, np.complex64, np.int64]
)
def test_the_element_type_stays(dtype: type):
    first, second = np.ones((1, 2), dtype), np.zeros((2, 1), dtype)
    result = merge_one([first, second], 4, pad=True)
    assert result.dtype == dtype
    assert result.tolist() == np.array([[1, 1], [0, 0], [0, 0], [0, 0]], dtype).tolist()


def test_quantized_types_are_merged_and_padded():
    first = np.array([(1,), (2,)], QINT8).reshape(1, 2)
    second = np.array([(3,)], QINT8).reshape(1, 1)
    result = merge_one([first, second], pad=True)
    assert result.view(np.int8).tolist() == [[1, 2], [3, 3]]


def test_strings_are_merged_and_padded():
    first = np.array([[b"a", b"\0bc"]], np.object_)
    second = np.array([[b"longer"]], np.object_)
    result = merge_one([first, second], 3, pad=True)
    assert result.tolist() == [[b"a", b"\0bc"], [b"longer", b"longer"], [b"longer", b"longer"]]


@pytest.mark.parametrize("pad", [False, True])
def test_a_different_element_type_is_an_internal_error(pad: bool):
    with pytest.raises(Internal) as raised:
        merge_one([np.zeros(1, np.float32), np.zeros(1, np.int32)], pad=pad)
    assert raised.value.message == (
        "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have "
        "different data types. Got float and int32."
    )


def test_differing_shapes_are_refused_without_padding():
    with pytest.raises(FailedPrecondition) as raised:
        merge_one([np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 3))])
    assert raised.value.message == (
        "Tensors with name 'x:0' from different tasks have different shapes and padding is turned "
        "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same "
        "name have equal dimensions starting with the first dim."
    )


def test_padding_repeats_each_tensors_own_first_element_at_the_ends():
    first = np.array([[[1, 2, 3]]])
    second = np.array([[[4], [5]], [[6], [7]]])
    assert merge_one([first, second], pad=True).tolist() == [
        [[1, 2, 3], [1, 1, 1]],
        [[4, 4, 4], [5, 4, 4]],
        [[6, 4, 4], [7, 4, 4]],
    ]


def test_rows_that_fill_a_batch_up_are_padded_rows():
    first, second = np.array([[1, 2, 3]]), np.array([[4], [5]])
    assert merge_one([first, second], 4, pad=True).tolist()[-1] == [4, 4, 4]


def test_a_task_without_rows_takes_part_in_the_padding():
    assert merge_one([np.zeros((0, 3)), np.ones((1, 2))], pad=True).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        (
            [(1, 0), (1, 2)],
            InvalidArgument("Got empty tensor in batch of non-empty tensors."),
        ),
        (
            [(1,) * 7],
            InvalidArgument("Only tensors with rank from 1 to 6 can be padded."),
        ),
        (
            [(1, 1), (1, 1, 1)],
            FailedPrecondition(
                "Tensors with name 'x:0' from different tasks have different ranks, which padding "
                "does not make equal."
            ),
        ),
    ],
)
def test_what_cannot_be_padded(shapes: list[tuple[int, ...]], error: ServingError):
    with pytest.raises(type(error)) as raised:
        merge_one([np.zeros(shape) for shape in shapes], pad=True)
    assert raised.value.message == error.message


@pytest.mark.parametrize("shapes", [[(1, 0), (2, 0)], [(1,), (2,)], [(1,) * 6, (1,) * 5 + (2,)]])
def test_what_can_be_padded(shapes: list[tuple[int, ...]]):
    result = merge_one([np.zeros(shape) for shape in shapes], pad=True)
    assert result.shape[0] == sum(shape[0] for shape in shapes)


def test_outputs_are_split_into_views_and_the_rest_is_dropped():
    output = np.arange(8).reshape(4, 2)
    shares = split_outputs([output], [1, 0, 2])
    assert [share[0].tolist() for share in shares] == [[[0, 1]], [], [[2, 3], [4, 5]]]
    assert all(np.shares_memory(share[0], output) for share in (shares[0], shares[2]))


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (
            np.zeros(2),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_an_output_without_the_batchs_rows_is_refused(output: np.ndarray, text: str):
    with pytest.raises(FailedPrecondition) as raised:
        check_outputs([np.zeros(3), np.asarray(output)], 3)
    assert raised.value.message == text


def test_inputs_are_cut_into_views_and_outputs_joined():
    feeds = {"a:0": np.arange(5), "b:0": np.arange(10).reshape(5, 2)}
    parts = split_feeds(feeds, [2, 3])
    assert [part["a:0"].tolist() for part in parts] == [[0, 1], [2, 3, 4]]
    assert np.shares_memory(parts[1]["b:0"], feeds["b:0"])
    outputs = joined_outputs([[part["a:0"], part["b:0"]] for part in parts])
    assert outputs[0].tolist() == feeds["a:0"].tolist()
    assert outputs[1].tolist() == feeds["b:0"].tolist()


def test_parts_that_do_not_fit_together_are_an_internal_error():
    with pytest.raises(Internal) as raised:
        joined_outputs([[np.zeros((1, 2))], [np.zeros((1, 3))]])
    assert raised.value.message.startswith("Tensor concat operation failed: ")


def test_padding_that_would_need_many_times_the_memory_of_the_inputs_is_refused():
    """No memory is asked for: it might be granted, and filling it end the server."""
    rows = [np.zeros((1, 1, 300_000), np.float32), np.zeros((1, 300_000, 1), np.float32)]

    def no_memory(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        raise AssertionError(f"{shape} of {dtype} was asked for")

    with pytest.raises(InvalidArgument) as raised:
        merged([{"x": row} for row in rows], 2, pad=True, empty=no_memory)
    assert raised.value.message == (
        "Tensors with name 'x' from different tasks have shapes too different to be padded: "
        "their 2400000 bytes would become 720000000000."
    )


def test_a_long_row_among_many_short_ones_is_padded_as_ever():
    tasks = [{"x": np.ones((1, 4096 if row == 0 else 1), np.float32)} for row in range(200)]
    assert merged(tasks, 200, pad=True)["x"].shape == (200, 4096)
