"""PredictionLog messages: requests with their answers, for warm-up files and request logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.input_codec import inference_tasks, serialized_examples
from serving.apis.tensorflow_serving.model_spec import encode_model_spec
from serving.apis.tensorflow_serving.predict_request import decode_predict_request
from serving.apis.tensorflow_serving.wire import varint
from serving.core.errors import ServingError, Unimplemented
from serving.core.request_log import LoggedCall, LoggedVerb, Payload
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.inference.classify import classify
from serving.inference.multi_inference import multi_inference
from serving.inference.predict import predict
from serving.inference.regress import regress

_Ended = Callable[[ServingError | None], None]

_VERB_TAGS: Mapping[LoggedVerb, bytes] = {
    LoggedVerb.CLASSIFY: b"\x12",
    LoggedVerb.REGRESS: b"\x1a",
    LoggedVerb.MULTI_INFERENCE: b"\x22",
    LoggedVerb.PREDICT: b"\x32",
}
"""The field of each kind of log in a PredictionLog; in all, 1 is the request and 2 the answer."""
_METADATA_TAG = _REQUEST_TAG = b"\x0a"
_RESPONSE_TAG = b"\x12"


def parse_prediction_log(data: bytes) -> protos.PredictionLog | None:
    """The message in ``data``; None where the bytes are not one."""
    try:
        return protos.PredictionLog.FromString(data)
    except DecodeError:
        return None


def encode_prediction_log(call: LoggedCall, metadata: bytes) -> bytes:
    """The serialized PredictionLog of a call, around its messages as they were on the wire."""
    exchange = _field(_REQUEST_TAG, _bytes(call.request)) + _field(
        _RESPONSE_TAG, _bytes(call.response)
    )
    return _field(_METADATA_TAG, metadata) + _field(_VERB_TAGS[call.verb], exchange)


def encode_log_metadata(
    call: LoggedCall, sampling: bytes, tags: Sequence[str], dc: str, seconds: float
) -> bytes:
    """The serialized LogMetadata of a call at ``seconds`` since the epoch.

    ``sampling`` is a serialized SamplingConfig, ``tags`` are those of the SavedModel.
    """
    metadata = protos.LogMetadata(saved_model_tags=tags, dc=dc, timestamp_secs=int(seconds))
    metadata.sampling_config.MergeFromString(sampling)
    encode_model_spec(call.servable_id, metadata.model_spec, call.signature_name)
    return metadata.SerializeToString()


def _field(tag: bytes, content: bytes) -> bytes:
    return b"".join((tag, varint(len(content)), content))


def _bytes(payload: Payload) -> bytes:
    return payload if isinstance(payload, bytes) else payload()


class LoggedExchange(NamedTuple):
    """A logged call: which method of PredictionService, with its messages.

    The response is empty where only the request was kept.
    """

    method: str
    request: Any
    response: Any


def logged_exchange(log: protos.PredictionLog) -> LoggedExchange | None:
    """The messages of a log themselves; None where it is of no call of PredictionService."""
    kind = log.WhichOneof("log_type")
    if kind not in _METHODS:
        return None
    exchange = getattr(log, kind)
    return LoggedExchange(_METHODS[kind], exchange.request, exchange.response)


def model_names(request: Any) -> set[str]:
    """The models that a request of PredictionService names."""
    return {spec.name for spec in _model_specs(request)}


def redirect(request: Any, model_name: str, version: int | None) -> None:
    """Have a request ask this model, unless the name is empty, and this version if there is one."""
    for spec in _model_specs(request):
        if model_name:
            spec.name = model_name
        if version is not None:
            spec.version.value = version


def _model_specs(request: Any) -> Sequence[protos.ModelSpec]:
    if "tasks" in request.DESCRIPTOR.fields_by_name:
        return [task.model_spec for task in request.tasks]
    return [request.model_spec]


def run_prediction_log(
    log: protos.PredictionLog,
    check_method_name: bool,
    handle: ServableHandle,
    options: RunOptions,
    ended: _Ended,
) -> None:
    """Run the logged request on the version at hand, whatever model and version it names.

    ``ended`` is called once, from any thread, with the error there was; the answer is forgotten. A
    log of nothing is run at once. Never raises; Unimplemented for kinds that are not requests of
    PredictionService.
    """

    def done(result: object) -> None:
        ended(result if isinstance(result, ServingError) else None)

    kind = log.WhichOneof("log_type")
    if kind is None:
        ended(None)
    elif kind == "predict_log":
        _, request = decode_predict_request(log.predict_log.request)
        predict(handle, request, options, done, check_method_name=check_method_name)
    elif kind == "multi_inference_log":
        message = log.multi_inference_log.request
        multi_inference(
            handle,
            inference_tasks(message),
            serialized_examples(message.input),
            options,
            done,
            check_method_name=check_method_name,
        )
    elif kind in _EXAMPLE_VERBS:
        message = getattr(log, kind).request
        _EXAMPLE_VERBS[kind](
            handle,
            message.model_spec.signature_name,
            serialized_examples(message.input),
            options,
            done,
            check_method_name=check_method_name,
        )
    else:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        ended(Unimplemented(f"Unsupported log_type for warmup: {number}"))


_METHODS: Mapping[str | None, str] = {
    "predict_log": "Predict",
    "classify_log": "Classify",
    "regress_log": "Regress",
    "multi_inference_log": "MultiInference",
}
_EXAMPLE_VERBS = {"classify_log": classify, "regress_log": regress}
