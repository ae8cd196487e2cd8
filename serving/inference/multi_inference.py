"""Multi-inference: several classifications and regressions of the same examples in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.core.errors import InvalidArgument, ServingError, Unimplemented
from serving.core.observed_call import CURRENT_CALL
from serving.core.servable import DEFAULT_SIGNATURE, Outputs, RunOptions, Signature
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.attempt import Run, by_name, evaluate
from serving.inference.classify import (
    ClassificationTensors,
    ClassifyResult,
    classification_result,
    classification_tensors,
)
from serving.inference.examples import example_batch
from serving.inference.regress import (
    RegressionTensors,
    RegressResult,
    regression_result,
    regression_tensors,
)
from serving.inference.signatures import CLASSIFY_METHOD, REGRESS_METHOD

TaskResult = ClassifyResult | RegressResult


@dataclass(frozen=True, slots=True)
class InferenceTask:
    """One evaluation: which signature, and as what (``tensorflow/serving/classify``, ``regress``).

    All tasks of a request name the same model; an empty signature means ``serving_default``.
    """

    model_name: str
    signature_name: str
    method_name: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done for one task."""

    signature_name: str
    tensors: ClassificationTensors | RegressionTensors

    def result(
        self, servable_id: ServableId, fetched: Mapping[str, np.ndarray], rows: int
    ) -> TaskResult:
        if isinstance(self.tensors, ClassificationTensors):
            return classification_result(
                servable_id, self.signature_name, self.tensors, fetched, rows
            )
        values = fetched[self.tensors.values]
        return regression_result(servable_id, self.signature_name, values, rows)


def multi_inference(
    handle: ServableHandle,
    tasks: Sequence[InferenceTask],
    examples: Sequence[bytes],
    options: RunOptions,
    done: Callable[[Sequence[TaskResult] | ServingError], None],
    *,
    check_method_name: bool = False,
) -> None:
    """Evaluate every task on the examples; ``done`` is called once, with results in task order.

    One run fetches what all tasks need. The first task that is wrong, or whose outputs do not
    fit, fails the whole request. Never raises; does not release the handle.
    """

    def prepare() -> Run[Sequence[TaskResult]]:
        plans = _plans(handle.servable.signatures, tasks, check_method_name=check_method_name)
        batch = example_batch(examples)
        fetches = sorted({name for plan in plans for name in plan.tensors.fetches})

        def convert(outputs: Outputs) -> Sequence[TaskResult]:
            fetched = by_name(fetches, outputs)
            return [plan.result(handle.id, fetched, len(batch)) for plan in plans]

        return Run({plan.tensors.examples: batch for plan in plans}, fetches, convert)

    evaluate(handle.servable, prepare, options, done)


def _plans(
    signatures: Mapping[str, Signature], tasks: Sequence[InferenceTask], *, check_method_name: bool
) -> Sequence[_Plan]:
    plans: dict[str, _Plan] = {}
    for task in tasks:
        if not task.model_name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.model_name != tasks[0].model_name:
            raise InvalidArgument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.signature_name or DEFAULT_SIGNATURE
        if name in plans:
            raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
        signature = signatures.get(name)
        if signature is None:
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
        plans[name] = _Plan(
            name, _tensors(task.method_name, signature, check_method_name=check_method_name)
        )
    call = CURRENT_CALL.get()
    if call is not None:
        call.signature_name = ",".join(plans)
    return list(plans.values())


def _tensors(
    method_name: str, signature: Signature, *, check_method_name: bool
) -> ClassificationTensors | RegressionTensors:
    if method_name == CLASSIFY_METHOD:
        return classification_tensors(signature, check_method_name=check_method_name)
    if method_name == REGRESS_METHOD:
        return regression_tensors(signature, check_method_name=check_method_name)
    raise Unimplemented(f"Unsupported signature method_name: {method_name}")
