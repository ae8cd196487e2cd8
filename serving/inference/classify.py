"""Classify: serialized examples in, labels and scores a row out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.core.dtypes import DType, dtype_of
from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, Outputs, RunOptions, Signature
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.attempt import Run, by_name, evaluate
from serving.inference.examples import example_batch
from serving.inference.signatures import CLASSIFY_METHOD, find_signature, outline

_INPUTS, _CLASSES, _SCORES = "inputs", "classes", "scores"


@dataclass(frozen=True, slots=True)
class ClassifyResult:
    """Labels and scores, [rows, classes] each; a part that the signature lacks is None."""

    servable_id: ServableId
    signature_name: str
    classes: np.ndarray | None
    """Labels as bytes."""
    scores: np.ndarray | None
    """float32."""
    rows: int


@dataclass(frozen=True, slots=True)
class ClassificationTensors:
    """The engine's names of the tensors that a classification feeds and fetches."""

    examples: str
    classes: str | None
    scores: str | None

    @property
    def fetches(self) -> Sequence[str]:
        return [name for name in (self.classes, self.scores) if name is not None]


def classify(
    handle: ServableHandle,
    signature_name: str,
    examples: Sequence[bytes],
    options: RunOptions,
    done: Callable[[ClassifyResult | ServingError], None],
    *,
    check_method_name: bool = False,
) -> None:
    """Classify each serialized tensorflow.Example; ``done`` is called once with what came of it.

    An empty ``signature_name`` means ``serving_default``. Never raises; does not release the
    handle.
    """

    def prepare() -> Run[ClassifyResult]:
        name = signature_name or DEFAULT_SIGNATURE
        signature = find_signature(handle.servable, name)
        tensors = classification_tensors(signature, check_method_name=check_method_name)
        batch = example_batch(examples)

        def convert(outputs: Outputs) -> ClassifyResult:
            fetched = by_name(tensors.fetches, outputs)
            return classification_result(handle.id, name, tensors, fetched, len(batch))

        return Run({tensors.examples: batch}, tensors.fetches, convert)

    evaluate(handle.servable, prepare, options, done)


def classification_tensors(
    signature: Signature, *, check_method_name: bool
) -> ClassificationTensors:
    """What to feed and fetch; raises the error that says why the signature cannot classify."""
    if check_method_name and signature.method_name != CLASSIFY_METHOD:
        raise InvalidArgument(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD}. "
            f"Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    examples = signature.inputs.get(_INPUTS)
    if examples is None:
        raise FailedPrecondition(
            f"No classification inputs found in SignatureDef: {outline(signature)}"
        )
    classes, scores = signature.outputs.get(_CLASSES), signature.outputs.get(_SCORES)
    if classes is None and scores is None:
        raise FailedPrecondition(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {outline(signature)}'
        )
    return ClassificationTensors(
        examples.name, classes.name if classes else None, scores.name if scores else None
    )


def classification_result(
    servable_id: ServableId,
    signature_name: str,
    tensors: ClassificationTensors,
    fetched: Mapping[str, np.ndarray],
    rows: int,
) -> ClassifyResult:
    """The result from the fetched tensors by name; raises InvalidArgument when they do not fit."""
    classes = fetched[tensors.classes] if tensors.classes is not None else None
    scores = fetched[tensors.scores] if tensors.scores is not None else None
    if classes is not None:
        _check_output(_CLASSES, classes, DType.STRING, rows)
    if scores is not None:
        _check_output(_SCORES, scores, DType.FLOAT, rows)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            "Tensors class and score should match in dim_size(1). "
            f"Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return ClassifyResult(servable_id, signature_name, classes, scores, rows)


def _check_output(alias: str, tensor: np.ndarray, dtype: DType, rows: int) -> None:
    if tensor.ndim != 2:
        shape = ",".join(str(size) for size in tensor.shape)
        raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got [{shape}]")
    if dtype_of(tensor) is not dtype:
        raise InvalidArgument(
            f"Expected {alias} Tensor of DT_{dtype.name}. Got: DT_{dtype_of(tensor).name}"
        )
    if tensor.shape[0] != rows:
        raise InvalidArgument(
            f"Expected {alias} output batch size of {rows}. Got: {tensor.shape[0]}"
        )
