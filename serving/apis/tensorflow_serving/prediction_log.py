"""PredictionLog messages: requests with their answers, for warm-up files and request logs."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import DecodeError

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.input_codec import inference_tasks, serialized_examples
from serving.apis.tensorflow_serving.predict_request import decode_predict_request
from serving.core.errors import ServingError, Unimplemented
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.inference.classify import classify
from serving.inference.multi_inference import multi_inference
from serving.inference.predict import predict
from serving.inference.regress import regress

_Ended = Callable[[ServingError | None], None]


def parse_prediction_log(data: bytes) -> protos.PredictionLog | None:
    """The message in ``data``; None where the bytes are not one."""
    try:
        return protos.PredictionLog.FromString(data)
    except DecodeError:
        return None


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


_EXAMPLE_VERBS = {"classify_log": classify, "regress_log": regress}
