"""What models of tables have in common: rows of features in, an answer for each row out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.core.dtypes import DType, dtype_of, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.servable import Outputs, Signature, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device, no_such_device
from serving.loaders.function_servable import Compute, FunctionServable
from serving.loaders.input_check import as_bytes
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
    where the first can not, and for declared outputs that the model does not have.
    """
    if declared.outputs is None:
        found = _probed(inputs, outputs, compute)
        return FunctionServable(servable_id, _signature(inputs, found), compute, refusals=refusals)
    if unknown := sorted(declared.outputs.keys() - set(outputs)):
        raise InvalidArgument(
            f"signature.json: outputs.{unknown[0]} is none of the model's, which are "
            f"{', '.join(outputs)}"
        )
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
    feeds = {name: _nothing(info) for name, info in inputs.items()}
    found: dict[str, TensorInfo] = {}
    for name in outputs:
        try:
            (array,) = (as_bytes(each) for each in compute(feeds, [name]))
            found[name] = TensorInfo(name, dtype_of(array), (None, *array.shape[1:]))
        except Exception as error:
            if found:
                continue
            raise InvalidArgument(
                f"a run that was to find out the model's outputs failed: {error}; signature.json "
                "has to say what they are, or the right types of the inputs"
            ) from error
    return found


def _nothing(info: TensorInfo) -> np.ndarray:
    """Two rows of zeros, or of empty strings."""
    shape = (_PROBED_ROWS, *(size or 1 for size in (info.shape or (None,))[1:]))
    if info.dtype is DType.STRING:
        return np.full(shape, b"", np.object_)
    return np.zeros(shape, numpy_dtype(info.dtype))


def _as(dtype: DType, array: np.ndarray) -> np.ndarray:
    if dtype is DType.STRING:
        return array.astype(np.str_)
    return array.astype(numpy_dtype(dtype), copy=False)
