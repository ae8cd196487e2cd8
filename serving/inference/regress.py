"""Regress: serialized examples in, one value a row out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serving.core.dtypes import DType, dtype_of
from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, Outputs, RunOptions, Signature
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.attempt import Run, evaluate
from serving.inference.examples import example_batch
from serving.inference.signatures import REGRESS_METHOD, find_signature, outline

_INPUTS, _OUTPUTS = "inputs", "outputs"


@dataclass(frozen=True, slots=True)
class RegressResult:
    """One float32 value for each example, shape [rows]."""

    servable_id: ServableId
    signature_name: str
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class RegressionTensors:
    """The engine's names of the tensors that a regression feeds and fetches."""

    examples: str
    values: str

    @property
    def fetches(self) -> Sequence[str]:
        return [self.values]


def regress(
    handle: ServableHandle,
    signature_name: str,
    examples: Sequence[bytes],
    options: RunOptions,
    done: Callable[[RegressResult | ServingError], None],
    *,
    check_method_name: bool = False,
) -> None:
    """Regress each serialized tensorflow.Example; ``done`` is called once with what came of it.

    An empty ``signature_name`` means ``serving_default``. Never raises; does not release the
    handle.
    """

    def prepare() -> Run[RegressResult]:
        name = signature_name or DEFAULT_SIGNATURE
        signature = find_signature(handle.servable, name)
        tensors = regression_tensors(signature, check_method_name=check_method_name)
        batch = example_batch(examples)

        def convert(outputs: Outputs) -> RegressResult:
            if len(outputs) != 1:
                raise InvalidArgument(
                    "Expected output_tensors and output_tensor_names to have the same size."
                )
            return regression_result(handle.id, name, outputs[0], len(batch))

        return Run({tensors.examples: batch}, tensors.fetches, convert)

    evaluate(handle.servable, prepare, options, done)


def regression_tensors(signature: Signature, *, check_method_name: bool) -> RegressionTensors:
    """What to feed and fetch; raises the error that says why the signature cannot regress."""
    if check_method_name and signature.method_name != REGRESS_METHOD:
        raise InvalidArgument(
            f"Expected regression signature method_name to be {REGRESS_METHOD}. "
            f"Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    examples, values = signature.inputs.get(_INPUTS), signature.outputs.get(_OUTPUTS)
    if examples is None:
        raise FailedPrecondition(
            f"No regression inputs found in SignatureDef: {outline(signature)}"
        )
    if values is None:
        raise FailedPrecondition(
            f"No regression outputs found in SignatureDef: {outline(signature)}"
        )
    return RegressionTensors(examples.name, values.name)


def regression_result(
    servable_id: ServableId, signature_name: str, values: np.ndarray, rows: int
) -> RegressResult:
    """The result from the fetched tensor; raises InvalidArgument when it does not fit."""
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        shape = ",".join(str(size) for size in values.shape)
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got [{shape}]"
        )
    if values.shape[0] != rows:
        raise InvalidArgument(
            f"Input batch size did not match output batch size: {rows} vs. {values.shape[0]}"
        )
    if dtype_of(values) is not DType.FLOAT:
        raise InvalidArgument(
            f"Expected output Tensor of DT_FLOAT.  Got: DT_{dtype_of(values).name}"
        )
    return RegressResult(servable_id, signature_name, values.reshape(rows))
