"""What models of tables have in common: rows of features in, an answer for each row out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from serving.core.dtypes import DType, dtype_of, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.servable import Outputs, Signature, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device, no_such_device
from serving.loaders.function_servable import Compute, FunctionServable
from serving.loaders.input_check import as_bytes, fits
from serving.loaders.signature_file import DeclaredSignature

PREDICT = "predict"
_PROBED_ROWS = 2  # some estimators take a single row for a mistake


def check_device(servable_id: ServableId, device: Device | None) -> None:
    """Raise FailedPrecondition for another device than the processor."""
    if device not in (None, CPU):
        raise no_such_device(servable_id, device, [CPU])


def matrix_input(declared: DeclaredSignature, num_features: int, dtype: DType) -> TensorInfo:
    """The one input, of shape (rows, features): ``x``, or what ``signature.json`` calls it.

    Raises InvalidArgument for a file that declares another shape, or a type without numbers.
    """
    shape = (None, num_features)
    if declared.inputs is None:
        return TensorInfo("x", dtype, shape)
    info = next(iter(declared.inputs.values()))
    is_number = numpy_dtype(info.dtype).kind in "fiub"
    if len(declared.inputs) != 1 or info.shape != shape or not is_number:
        raise InvalidArgument(
            "signature.json: inputs must be one, of numbers, of the shape "
            f"[null, {num_features}], as the model has {num_features} features"
        )
    return info


def column_inputs(declared: Mapping[str, TensorInfo]) -> Mapping[str, TensorInfo]:
    """Inputs that are a feature each, of the shape (rows,) where ``signature.json`` says none.

    Raises InvalidArgument for a shape with more than one value in a row.
    """
    for name, info in declared.items():
        if info.shape not in (None, (None,), (None, 1)):
            raise InvalidArgument(
                f"signature.json: inputs.{name}.shape must be [null], as it is one feature"
            )
    return {
        name: info if info.shape is not None else replace(info, shape=(None,))
        for name, info in declared.items()
    }


def tabular_servable(
    servable_id: ServableId,
    inputs: Mapping[str, TensorInfo],
    outputs: Sequence[str],
    compute: Compute,
    *,
    declared: DeclaredSignature,
    refusals: tuple[type[Exception], ...] = (ValueError,),
) -> FunctionServable:
    """A servable whose ``outputs`` are declared, or found out by a run with two rows of nothing.

    An output other than the first is left out where it can not be computed. Raises InvalidArgument
    where the first can not, and for declared outputs that the model does not have, or that such a
    run, unless it fails, shows to be others.
    """
    if declared.outputs is None:
        found = _probed(inputs, outputs, compute)
        return FunctionServable(servable_id, _signature(inputs, found), compute, refusals=refusals)
    if unknown := sorted(declared.outputs.keys() - set(outputs)):
        raise InvalidArgument(
            f"signature.json: outputs.{unknown[0]} is none of the model's, which are "
            f"{', '.join(outputs)}"
        )
    _check_declared(inputs, declared.outputs, compute)
    types = {name: info.dtype for name, info in declared.outputs.items()}

    def compute_as_declared(feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
        computed = compute(feeds, fetches)
        return [_as(types[name], array) for name, array in zip(fetches, computed, strict=True)]

    signature = _signature(inputs, declared.outputs)
    return FunctionServable(servable_id, signature, compute_as_declared, refusals=refusals)


def _signature(inputs: Mapping[str, TensorInfo], outputs: Mapping[str, TensorInfo]) -> Signature:
    return Signature(inputs, outputs, method_name="tensorflow/serving/predict")


def _probed(
    inputs: Mapping[str, TensorInfo], outputs: Sequence[str], compute: Compute
) -> Mapping[str, TensorInfo]:
    found: dict[str, TensorInfo] = {}
    for name in outputs:
        try:
            array = as_bytes(_answer(inputs, name, compute))
            _check_rows(name, array)
            found[name] = TensorInfo(name, dtype_of(array), (None, *array.shape[1:]))
        except Exception as error:
            if found:
                continue
            raise InvalidArgument(
                f"a run that was to find out the model's outputs failed: {error}; signature.json "
                "has to say what they are, or the right types of the inputs"
            ) from error
    return found


def _check_declared(
    inputs: Mapping[str, TensorInfo], outputs: Mapping[str, TensorInfo], compute: Compute
) -> None:
    for name, info in outputs.items():
        try:
            array = _answer(inputs, name, compute)
        except Exception:  # noqa: BLE001 - features of nothing need not be possible
            continue
        _check_rows(name, array)
        shape = (None, *array.shape[1:])
        if info.shape is not None and (not fits(array.shape, info.shape) or info.shape[0]):
            raise _contradiction(f"{name}.shape must be {json.dumps(shape)}")
        try:
            _as(info.dtype, array)
        except (ValueError, TypeError) as error:
            raise _contradiction(f"{name}.dtype can not be {info.dtype.label} ({error})") from error


def _answer(inputs: Mapping[str, TensorInfo], name: str, compute: Compute) -> np.ndarray:
    """An output of a run with rows of nothing."""
    (array,) = compute({name: _nothing(info) for name, info in inputs.items()}, [name])
    return array


def _check_rows(name: str, array: np.ndarray) -> None:
    if array.ndim == 0 or len(array) != _PROBED_ROWS:
        shape = list(array.shape)
        raise InvalidArgument(f"{name} of {_PROBED_ROWS} rows has the shape {shape}")


def _contradiction(text: str) -> InvalidArgument:
    return InvalidArgument(f"signature.json: outputs.{text}, as the model answers")


def _nothing(info: TensorInfo) -> np.ndarray:
    """Two rows of zeros, or of empty strings."""
    shape = (_PROBED_ROWS, *(size or 1 for size in (info.shape or (None,))[1:]))
    if info.dtype is DType.STRING:
        return np.full(shape, b"", np.object_)
    return np.zeros(shape, numpy_dtype(info.dtype))


def _as(dtype: DType, array: np.ndarray) -> np.ndarray:
    if dtype is DType.STRING:
        return as_bytes(array.astype(np.object_))
    return array.astype(numpy_dtype(dtype), copy=False)
