"""REST calls as the gRPC calls that say the same, for the request log.

The messages are made when they are written, on the thread that writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.predict_response import PredictResponseWriter
from serving.apis.tensorflow_serving.result_codec import encode_classify, encode_regress
from serving.apis.tensorflow_serving.tensor_writer import write_tensor
from serving.core.request_log import LoggedCall, LoggedVerb
from serving.inference.classify import ClassifyResult
from serving.inference.predict import PredictResult
from serving.inference.regress import RegressResult


def logged_predict(inputs: Mapping[str, np.ndarray], result: PredictResult) -> LoggedCall:
    """The arrays must not be written to any more."""
    outputs = {alias: _own(array) for alias, array in result.outputs.items()}
    result = result._replace(outputs=outputs)

    def request() -> bytes:
        message = protos.PredictRequest()
        message.model_spec.name = result.servable_id.name
        message.model_spec.signature_name = result.signature_name
        for alias, array in inputs.items():
            message.inputs[alias].MergeFromString(write_tensor(array))
        return message.SerializeToString()

    return LoggedCall(
        LoggedVerb.PREDICT,
        result.servable_id,
        result.signature_name,
        request,
        partial(PredictResponseWriter().write, result),
        _size_bytes((*inputs.values(), *outputs.values())),
    )


def logged_classify(examples: Sequence[bytes], result: ClassifyResult) -> LoggedCall:
    """``examples`` are serialized."""
    classes, scores = (
        part if part is None else _own(part) for part in (result.classes, result.scores)
    )
    return _logged(
        LoggedVerb.CLASSIFY,
        protos.ClassificationRequest,
        examples,
        result,
        response=partial(encode_classify, replace(result, classes=classes, scores=scores)),
        response_bytes=_size_bytes(part for part in (classes, scores) if part is not None),
    )


def logged_regress(examples: Sequence[bytes], result: RegressResult) -> LoggedCall:
    """``examples`` are serialized."""
    values = _own(result.values)
    return _logged(
        LoggedVerb.REGRESS,
        protos.RegressionRequest,
        examples,
        result,
        response=partial(encode_regress, replace(result, values=values)),
        response_bytes=_size_bytes([values]),
    )


def _logged(
    verb: LoggedVerb,
    kind: type[protos.ClassificationRequest] | type[protos.RegressionRequest],
    examples: Sequence[bytes],
    result: ClassifyResult | RegressResult,
    *,
    response: Callable[[], bytes],
    response_bytes: int,
) -> LoggedCall:
    servable_id, signature_name = result.servable_id, result.signature_name

    def request() -> bytes:
        message = kind()
        message.model_spec.name = servable_id.name
        message.model_spec.signature_name = signature_name
        for example in examples:
            message.input.example_list.examples.add().MergeFromString(example)
        return message.SerializeToString()

    size_bytes = sum(map(len, examples)) + response_bytes
    return LoggedCall(verb, servable_id, signature_name, request, response, size_bytes)


def _own(array: np.ndarray) -> np.ndarray:
    """Without the rest of the batch, which a part of one would keep in memory."""
    base = array.base
    return array.copy() if isinstance(base, np.ndarray) and base.nbytes > array.nbytes else array


def _size_bytes(arrays: Iterable[np.ndarray]) -> int:
    """What the arrays take in memory, with the strings that they hold."""
    total = 0
    for array in arrays:
        total += array.nbytes
        if array.dtype == np.object_:
            total += sum(map(sys.getsizeof, array.flat))
    return total
