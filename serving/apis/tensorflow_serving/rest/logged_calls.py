"""REST calls as the gRPC calls that say the same, for the request log.

The messages are made when they are written, on the thread that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        sum(array.nbytes for array in (*inputs.values(), *result.outputs.values())),
    )


def logged_classify(examples: Sequence[bytes], result: ClassifyResult) -> LoggedCall:
    """``examples`` are serialized."""
    return _logged(
        LoggedVerb.CLASSIFY,
        protos.ClassificationRequest,
        examples,
        result,
        partial(encode_classify, result),
    )


def logged_regress(examples: Sequence[bytes], result: RegressResult) -> LoggedCall:
    """``examples`` are serialized."""
    return _logged(
        LoggedVerb.REGRESS,
        protos.RegressionRequest,
        examples,
        result,
        partial(encode_regress, result),
    )


def _logged(
    verb: LoggedVerb,
    kind: type[protos.ClassificationRequest] | type[protos.RegressionRequest],
    examples: Sequence[bytes],
    result: ClassifyResult | RegressResult,
    response: Callable[[], bytes],
) -> LoggedCall:
    def request() -> bytes:
        message = kind()
        message.model_spec.name = result.servable_id.name
        message.model_spec.signature_name = result.signature_name
        for example in examples:
            message.input.example_list.examples.add().MergeFromString(example)
        return message.SerializeToString()

    size_bytes = sum(map(len, examples))
    return LoggedCall(
        verb, result.servable_id, result.signature_name, request, response, size_bytes
    )
