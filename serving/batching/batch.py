"""What is done to tensors: many tasks' into one batch's, and one batch's back into many tasks'.

Only functions of their arguments; rows are counted along dimension 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.core.dtypes import dtype_of
from serving.core.errors import (
    FailedPrecondition,
    IncompatibleShapes,
    IncompatibleTypes,
    Internal,
    InvalidArgument,
)
from serving.core.servable import Outputs

Feeds = Mapping[str, np.ndarray]

Empty = Callable[[Sequence[int], np.dtype], np.ndarray]
"""New memory for an array of this shape and type, with any content."""

_MOST_DIMENSIONS_TO_PAD = 6
_MOST_GROWTH_BY_PADDING = 64
_BYTES_THAT_PADDING_MAY_ADD = 64 << 20
"""Whatever the inputs have: texts of a few words beside one of thousands are no attack."""


def row_count(feeds: Feeds) -> int:
    """The rows that every input has. Raises InvalidArgument for inputs that are not batchable."""
    if not feeds:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    rows = -1
    for tensor in feeds.values():
        shape = tensor.shape
        if not shape:
            raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
        if shape[0] != rows:
            if rows >= 0:
                raise InvalidArgument(
                    "Batching Run() input tensors must have equal 0th-dimension size"
                )
            rows = shape[0]
    return rows


def rounded_size(size: int, allowed_sizes: Sequence[int]) -> int:
    """The first allowed size that is not smaller; ``size`` itself where there is none.

    A batch without rows stays without: there is no row to fill it up with.
    """
    if size == 0:
        return 0
    return next((allowed for allowed in allowed_sizes if allowed >= size), size)


def merged(
    tasks: Sequence[Feeds], size: int, *, pad: bool, empty: Empty = np.empty
) -> dict[str, np.ndarray]:
    """The inputs of a batch of ``size`` rows: the tasks' in order, then copies of one row.

    That row is the first of the last task that has any. All tasks have the same names; the result
    is in their order. ``pad``: tensors smaller than others beyond dimension 0 are padded at the
    end of each dimension with their own first element. Each element is copied once, into memory
    from ``empty``, and not at all where one task is the batch: the result must not be written to.

    Raises IncompatibleShapes or IncompatibleTypes for tasks that differ, InvalidArgument for
    what cannot be padded, or would become more than 64 times as large by it, and 64 MiB.
    """
    row_shape = _padded_row_shape if pad else _equal_row_shape
    columns = {name: [task[name] for task in tasks] for name in sorted(tasks[0])}
    shapes = {name: row_shape(name, tensors) for name, tensors in columns.items()}
    return {name: _merged_tensor(columns[name], shapes[name], size, empty) for name in columns}


def check_outputs(outputs: Outputs, size: int) -> None:
    """Raises FailedPrecondition for an output that does not have ``size`` rows."""
    for output in outputs:
        if output.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if len(output) != size:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors"
            )


def split_outputs(outputs: Outputs, sizes: Sequence[int]) -> list[list[np.ndarray]]:
    """For each task its rows of every output, as views; rows beyond the sum are dropped."""
    shares, start = [], 0
    for rows in sizes:
        shares.append([output[start : start + rows] for output in outputs])
        start += rows
    return shares


def split_feeds(feeds: Feeds, sizes: Sequence[int]) -> list[Feeds]:
    """The inputs of one task in parts of so many rows, as views."""
    parts: list[Feeds] = []
    start = 0
    for rows in sizes:
        parts.append({name: tensor[start : start + rows] for name, tensor in feeds.items()})
        start += rows
    return parts


def joined_outputs(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of a task that ran in parts. Raises Internal for parts that do not fit."""
    try:
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
    except ValueError:
        raise Internal(
            "Tensor concat operation failed: the batches that a request was spread over gave "
            "outputs of different shapes"
        ) from None


def _equal_row_shape(name: str, tensors: Sequence[np.ndarray]) -> tuple[int, ...]:
    shape: tuple[int, ...] = tensors[0].shape[1:]
    for tensor in tensors:
        if tensor.shape[1:] != shape:
            raise IncompatibleShapes(
                f"Tensors with name '{name}' from different tasks have different shapes and "
                "padding is turned off. Set pad_variable_length_inputs to true, or ensure that "
                "all tensors with the same name have equal dimensions starting with the first dim."
            )
    return shape


def _padded_row_shape(name: str, tensors: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The largest size of each dimension but the first."""
    ranks = {tensor.ndim for tensor in tensors}
    if max(ranks) > _MOST_DIMENSIONS_TO_PAD:
        raise InvalidArgument("Only tensors with rank from 1 to 6 can be padded.")
    if len(ranks) > 1:
        raise IncompatibleShapes(
            f"Tensors with name '{name}' from different tasks have different ranks, which padding "
            "does not make equal."
        )
    row_shape = tuple(max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True))
    _check_growth(name, tensors, row_shape)
    return row_shape


def _check_growth(name: str, tensors: Sequence[np.ndarray], row_shape: tuple[int, ...]) -> None:
    """Tensors each long in another dimension would need memory for the product of them all."""
    given = sum(tensor.nbytes for tensor in tensors)
    padded = sum(map(len, tensors)) * math.prod(row_shape) * tensors[0].itemsize
    if padded > _MOST_GROWTH_BY_PADDING * given + _BYTES_THAT_PADDING_MAY_ADD:
        raise InvalidArgument(
            f"Tensors with name '{name}' from different tasks have shapes too different to be "
            f"padded: their {given} bytes would become {padded}."
        )


def _merged_tensor(
    tensors: Sequence[np.ndarray], row_shape: tuple[int, ...], size: int, empty: Empty
) -> np.ndarray:
    if len(tensors) == 1 and len(tensors[0]) == size:
        return tensors[0]
    _check_same_dtype(tensors)
    rows = sum(map(len, tensors))
    batch = empty((size, *row_shape), tensors[0].dtype)
    if all(tensor.shape[1:] == row_shape for tensor in tensors):
        np.concatenate(tensors, out=batch[:rows])
    else:
        _fill_padded(batch, tensors)
    if rows < size:
        batch[rows:] = batch[_start_of_last(tensors)]
    return batch


def _start_of_last(tensors: Sequence[np.ndarray]) -> int:
    """Where the last tensor that has rows begins in their concatenation."""
    start = last = 0
    for tensor in tensors:
        if len(tensor):
            last = start
        start += len(tensor)
    return last


def _check_same_dtype(tensors: Sequence[np.ndarray]) -> None:
    first = tensors[0].dtype
    for tensor in tensors:
        if tensor.dtype != first:
            raise IncompatibleTypes(
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that "
                f"have different data types. Got {dtype_of(tensors[0]).label} and "
                f"{dtype_of(tensor).label}."
            )


def _fill_padded(batch: np.ndarray, tensors: Sequence[np.ndarray]) -> None:
    start = 0
    for tensor in tensors:
        slot = batch[start : start + len(tensor)]
        start += len(tensor)
        if slot.size and not tensor.size:
            raise InvalidArgument("Got empty tensor in batch of non-empty tensors.")
        if slot.shape != tensor.shape and slot.size:
            slot.fill(tensor.flat[0])
        slot[tuple(slice(length) for length in tensor.shape)] = tensor
