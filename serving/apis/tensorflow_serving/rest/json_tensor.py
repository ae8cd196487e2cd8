"""JSON values to arrays, by the element types of a signature: row and columnar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain

import numpy as np

from serving.apis.tensorflow_serving.rest.json_document import Json, quote
from serving.apis.tensorflow_serving.rest.json_element import (
    check_element,
    flat_array,
    is_base64_object,
)
from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument, ServingError
from serving.core.servable import TensorInfo

_MAX_RANK = 31  # arrays of numpy 1 have at most 32 dimensions, one of which may be the batch


def arrays_from_rows(
    instances: list[Json], inputs: Mapping[str, TensorInfo]
) -> dict[str, np.ndarray]:
    """The inputs from a non-empty list with one element a row: values, or objects by alias.

    Every array is [rows, …]. Raises InvalidArgument that names the element that is wrong.
    """
    if _is_object(instances[0]):
        return _arrays_from_objects(instances, inputs)
    if len(inputs) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    ((alias, info),) = inputs.items()
    array = _stack(instances, _shape(instances[0]), info.dtype)
    if array is None:
        raise _error_in_values(instances, info.dtype)
    return {alias: array}


def arrays_from_columns(value: Json, inputs: Mapping[str, TensorInfo]) -> dict[str, np.ndarray]:
    """The inputs from whole tensors: an object by alias, or the bare value of the only input.

    No dimension is added. Keys that the signature does not know are ignored. Raises
    InvalidArgument, and Unimplemented for element types that JSON cannot carry.
    """
    if isinstance(value, dict) and _is_object(value):
        for alias in inputs:
            if alias not in value:
                raise InvalidArgument(f"Missing named input: {alias} in 'inputs' object.")
        return {alias: _array(value[alias], info.dtype) for alias, info in inputs.items()}
    if len(inputs) > 1:
        raise InvalidArgument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    ((alias, info),) = inputs.items()
    return {alias: _array(value, info.dtype)}


def _is_object(value: Json) -> bool:
    return isinstance(value, dict) and not is_base64_object(value)


def _arrays_from_objects(
    instances: list[Json], inputs: Mapping[str, TensorInfo]
) -> dict[str, np.ndarray]:
    rows = [row for row in instances if isinstance(row, dict) and row.keys() == inputs.keys()]
    if len(rows) != len(instances):
        raise _error_in_objects(instances, inputs)
    arrays: dict[str, np.ndarray] = {}
    for alias, info in inputs.items():
        column = [row[alias] for row in rows]
        array = _stack(column, _shape(column[0]), info.dtype)
        if array is None:
            raise _error_in_objects(instances, inputs)
        arrays[alias] = array
    return arrays


def _array(value: Json, dtype: DType) -> np.ndarray:
    shape = _shape(value)
    array = _stack([value], shape, dtype)
    if array is None:
        _check(value, dtype, shape)
        raise InvalidArgument(f"JSON Value: {quote(value)} is not a tensor of {dtype.label}")
    return array.reshape(shape)


def _shape(value: Json) -> tuple[int, ...]:
    """The shape that the first element at each level promises."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > _MAX_RANK:
            raise InvalidArgument(f"Encountered lists nested in more than {_MAX_RANK} levels")
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _stack(items: list[Json], shape: tuple[int, ...], dtype: DType) -> np.ndarray | None:
    """Items of one shape as [items, *shape]; None when one of them is not what it should be.

    Looks at whole levels, not at elements one by one: who is wrong is found out afterwards.
    """
    leaves = items
    for size in shape:
        lists = [item for item in leaves if isinstance(item, list)]
        if len(lists) != len(leaves) or not {size}.issuperset(map(len, lists)):
            return None
        leaves = list(chain.from_iterable(lists))
    flat = flat_array(leaves, dtype)
    return None if flat is None else flat.reshape(len(items), *shape)


def _error_in_values(instances: list[Json], dtype: DType) -> InvalidArgument:
    """The first thing wrong with rows that are values."""
    first: tuple[int, ...] | None = None
    for number, value in enumerate(instances):
        if _is_object(value):
            return InvalidArgument(
                f"Expecting value/list but got object at item {number} of input list"
            )
        try:
            first = _check_row(value, dtype, first)
        except ServingError as error:
            return InvalidArgument(
                f"Failed to process element: {number} of 'instances' list. Error: {error}"
            )
    return InvalidArgument("Failed to process 'instances' list.")


def _error_in_objects(instances: list[Json], inputs: Mapping[str, TensorInfo]) -> InvalidArgument:
    """The first thing wrong with rows that are objects."""
    first: dict[str, tuple[int, ...]] = {}
    for number, row in enumerate(instances):
        if not isinstance(row, dict) or not _is_object(row):
            return InvalidArgument(f"Expecting object but got list at item {number} of input list")
        for alias, value in row.items():
            try:
                if alias not in inputs:
                    raise InvalidArgument(f"JSON object: does not have named input: {alias}")
                first[alias] = _check_row(value, inputs[alias].dtype, first.get(alias))
            except ServingError as error:
                return InvalidArgument(
                    f"Failed to process element: {number} key: {alias} of 'instances' list. "
                    f"Error: {error}"
                )
        if row.keys() != inputs.keys():
            return InvalidArgument(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{quote(row)} keys must be equal to: {','.join(sorted(inputs))}"
            )
    return InvalidArgument("Failed to process 'instances' list.")


def _check_row(value: Json, dtype: DType, first: tuple[int, ...] | None) -> tuple[int, ...]:
    """Raise what is wrong with one row's value; return the shape that all rows must have."""
    shape = _shape(value)
    _check(value, dtype, shape)
    if first is None:
        return shape
    if math.prod(shape) != math.prod(first):
        raise InvalidArgument(
            f"Expecting tensor size: {math.prod(first)} but got: {math.prod(shape)}"
        )
    if shape != first:
        raise InvalidArgument(f"Expecting shape {_joined(first)} but got: {_joined(shape)}")
    return first


def _joined(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _check(value: Json, dtype: DType, shape: tuple[int, ...], level: int = 0) -> None:
    """Raise the first thing that keeps ``value`` from being a tensor of this shape and type."""
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidArgument(
                f"JSON Value: {quote(value)} found at incorrect level: {level + 1} "
                f"in the JSON DOM. Expected at level: {len(shape)}"
            )
        check_element(value, dtype)
        return
    if level >= len(shape):
        raise InvalidArgument(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for item in value:
        _check(item, dtype, shape, level + 1)
