"""tensorflow.serving.PredictionService: Predict, Classify, Regress, MultiInference, metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.input_codec import inference_tasks, serialized_examples
from serving.apis.tensorflow_serving.messages import parse
from serving.apis.tensorflow_serving.model_spec import (
    NO_MODEL_SPEC,
    decode_model_spec,
    encode_model_spec,
    requested_model,
)
from serving.apis.tensorflow_serving.predict_request import PredictRequestReader
from serving.apis.tensorflow_serving.predict_response import PredictResponseWriter
from serving.apis.tensorflow_serving.result_codec import (
    encode_classification,
    encode_classify,
    encode_regress,
    encode_regression,
)
from serving.apis.tensorflow_serving.signature_codec import encode_signatures
from serving.core.call import CallContext, Reply, UnaryHandler
from serving.core.errors import Code, InvalidArgument, ServingError
from serving.core.models import Models, ModelSpec
from serving.core.priority import Priority, requested_priority
from serving.core.request_log import CallLogger, CallLoggers, LoggedCall, LoggedVerb
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.attempt import attempt
from serving.inference.classify import ClassifyResult, classify
from serving.inference.model_metadata import SIGNATURE_DEF, ModelMetadata, model_metadata
from serving.inference.multi_inference import TaskResult, multi_inference
from serving.inference.predict import PredictResult, predict
from serving.inference.regress import regress
from serving.metrics.model_names import ModelNames
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import ExampleMetrics, RequestMetrics

# Asked of the descriptor so that it is loaded: reflection describes to clients what is.
_SERVICE: str = protos.PREDICTION_SERVICE_FILE.services_by_name["PredictionService"].full_name

_OK = Code.OK.name
_PREDICT, _CLASSIFY, _REGRESS = "Predict", "Classify", "Regress"
_MULTI_INFERENCE = "MultiInference"

T = TypeVar("T")
Done = Callable[[T | ServingError], None]
T_co = TypeVar("T_co", covariant=True)


class _ExampleVerb(Protocol[T_co]):
    """Classify or regress."""

    def __call__(
        self,
        handle: ServableHandle,
        signature_name: str,
        examples: Sequence[bytes],
        options: RunOptions,
        done: Done[T_co],
        *,
        check_method_name: bool = False,
    ) -> None: ...


class _ExampleApi(NamedTuple, Generic[T]):
    """Classify or regress as clients call it."""

    name: str
    logged_as: LoggedVerb
    verb: _ExampleVerb[T]
    encode: Callable[[T], bytes]
    metrics: RequestMetrics


class _Asked(NamedTuple):
    """One call: what it is in the words of the request log, and what the transport knows of it."""

    verb: LoggedVerb
    signature_name: str
    request: bytes
    context: CallContext


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """Choices that hold for every call.

    ``check_method_name`` refuses signatures whose method_name does not fit the call.
    ``tensor_content`` writes the outputs of Predict there instead of in the typed fields.
    ``honor_priorities`` runs calls with the priority that their metadata asks for, and refuses
    with INVALID_ARGUMENT, before their model is looked up, those that ask for none that there is;
    without it that metadata is not read.
    """

    check_method_name: bool = False
    tensor_content: bool = False
    honor_priorities: bool = False


class PredictionService:
    """Answers the calls of PredictionService. Thread-safe.

    Replies come on the thread that completes the run. A leased model is given back as soon as its
    run has completed and the response is encoded.
    """

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        options: PredictionOptions | None = None,
        loggers: CallLoggers | None = None,
    ) -> None:
        self._models = models
        self._loggers = loggers or CallLoggers()
        shown = ModelNames(models.names).shown
        self._predict_metrics = RequestMetrics(metrics, _PREDICT, "GRPC", shown)
        of_classify = RequestMetrics(metrics, _CLASSIFY, "GRPC", shown)
        self._classify_api = _ExampleApi(
            _CLASSIFY, LoggedVerb.CLASSIFY, classify, encode_classify, of_classify
        )
        of_regress = RequestMetrics(metrics, _REGRESS, "GRPC", shown)
        self._regress_api = _ExampleApi(
            _REGRESS, LoggedVerb.REGRESS, regress, encode_regress, of_regress
        )
        self._example_metrics = ExampleMetrics(metrics)
        self._options = options or PredictionOptions()
        self.honor_priorities(self._options.honor_priorities)
        self._requests = PredictRequestReader()
        self._responses = PredictResponseWriter(tensor_content=self._options.tensor_content)

    def honor_priorities(self, honors: bool) -> None:
        """Change that option, for the calls to come."""
        self._run_options = _prioritized_run_options if honors else _run_options

    def methods(self) -> Mapping[str, UnaryHandler]:
        """The handler of each method, by its full path."""
        return {
            f"/{_SERVICE}/Predict": self._predict,
            f"/{_SERVICE}/Classify": self._classify,
            f"/{_SERVICE}/Regress": self._regress,
            f"/{_SERVICE}/MultiInference": self._multi_inference,
            f"/{_SERVICE}/GetModelMetadata": self._get_model_metadata,
        }

    def _predict(self, data: bytes, context: CallContext, reply: Reply) -> None:
        """As :meth:`_answer` with a count, but in fewer steps: of this call there are very many."""
        began = self._predict_metrics.begun()
        model, request = self._requests.read(data)
        try:
            options = self._run_options(context, _PREDICT)
        except ServingError as refusal:
            _count_and_reply(model, self._predict_metrics, began, refusal, reply)
            return

        def leased(handle: ServableHandle | ServingError) -> None:
            if isinstance(handle, ServingError):
                _count_and_reply(model, self._predict_metrics, began, handle, reply)
                return

            def done(result: PredictResult | ServingError) -> None:
                if isinstance(result, ServingError):
                    answer: bytes | ServingError = result
                else:
                    answer = attempt(self._responses.write, result)
                    logger = self._loggers.by_model.get(handle.id.name)
                    if logger is not None:
                        asked = _Asked(LoggedVerb.PREDICT, result.signature_name, data, context)
                        _log(logger, handle.id, asked, answer)
                handle.release()
                _count_and_reply(model, self._predict_metrics, began, answer, reply)

            check = self._options.check_method_name
            predict(handle, request, options, done, check_method_name=check)

        if model is None:
            error = InvalidArgument(NO_MODEL_SPEC)
            _count_and_reply(model, self._predict_metrics, began, error, reply)
        else:
            self._models.lease(model, context.deadline, leased)

    def _classify(self, data: bytes, context: CallContext, reply: Reply) -> None:
        message = parse(protos.ClassificationRequest, data)
        self._evaluate_examples(self._classify_api, message, data, context, reply)

    def _regress(self, data: bytes, context: CallContext, reply: Reply) -> None:
        message = parse(protos.RegressionRequest, data)
        self._evaluate_examples(self._regress_api, message, data, context, reply)

    def _evaluate_examples(
        self,
        api: _ExampleApi[T],
        message: protos.ClassificationRequest | protos.RegressionRequest,
        data: bytes,
        context: CallContext,
        reply: Reply,
    ) -> None:
        """Classify or regress: the two requests have the same fields."""
        began = api.metrics.begun()
        counted = _counted(decode_model_spec(message.model_spec), api.metrics, began, reply)
        try:
            options = self._run_options(context, api.name)
        except ServingError as error:
            counted(error)
            return
        examples = serialized_examples(message.input)

        def start(handle: ServableHandle, done: Done[T]) -> None:
            api.verb(
                handle,
                message.model_spec.signature_name,
                examples,
                options,
                done,
                check_method_name=self._options.check_method_name,
            )

        self._answer(
            lambda: requested_model(message),
            start,
            api.encode,
            _Asked(api.logged_as, message.model_spec.signature_name, data, context),
            counted,
        )

    def _multi_inference(self, data: bytes, context: CallContext, reply: Reply) -> None:
        message = parse(protos.MultiInferenceRequest, data)
        options = self._run_options(context, _MULTI_INFERENCE)
        examples = serialized_examples(message.input)
        tasks = inference_tasks(message)

        def start(handle: ServableHandle, done: Done[Sequence[TaskResult]]) -> None:
            def counted(results: Sequence[TaskResult] | ServingError) -> None:
                if not isinstance(results, ServingError):
                    self._example_metrics.evaluated(handle.id.name, len(examples))
                done(results)

            check = self._options.check_method_name
            multi_inference(handle, tasks, examples, options, counted, check_method_name=check)

        self._answer(
            lambda: _first_model(message),
            start,
            _encode_multi_inference,
            _Asked(LoggedVerb.MULTI_INFERENCE, "", data, context),
            reply,
        )

    def _get_model_metadata(self, data: bytes, context: CallContext, reply: Reply) -> None:
        message = parse(protos.GetModelMetadataRequest, data)
        fields = tuple(message.metadata_field)

        def done(result: ModelMetadata | ServingError) -> None:
            reply(
                result
                if isinstance(result, ServingError)
                else attempt(lambda: _encode_metadata(result))
            )

        model_metadata(self._models, requested_model(message), fields, context.deadline, done)

    def _answer(
        self,
        find_model: Callable[[], ModelSpec],
        start: Callable[[ServableHandle, Done[T]], None],
        encode: Callable[[T], bytes],
        asked: _Asked,
        reply: Reply,
    ) -> None:
        """Lease the model, start the verb, and when that is done give back the lease and reply."""

        def leased(handle: ServableHandle | ServingError) -> None:
            if isinstance(handle, ServingError):
                reply(handle)
                return

            def done(result: T | ServingError) -> None:
                if isinstance(result, ServingError):
                    answer: bytes | ServingError = result
                else:
                    answer = attempt(lambda: encode(result))
                    logger = self._loggers.by_model.get(handle.id.name)
                    if logger is not None:
                        _log(logger, handle.id, asked, answer)
                handle.release()
                reply(answer)

            start(handle, done)

        spec = attempt(find_model)
        if isinstance(spec, ServingError):
            reply(spec)
        else:
            self._models.lease(spec, asked.context.deadline, leased)


def _counted(model: ModelSpec, metrics: RequestMetrics, began: float, reply: Reply) -> Reply:
    """A reply that counts the request with the status it ends with."""
    return lambda answer: _count_and_reply(model, metrics, began, answer, reply)


def _count_and_reply(
    model: ModelSpec | None,
    metrics: RequestMetrics,
    began: float,
    answer: bytes | ServingError,
    reply: Reply,
) -> None:
    status = answer.code.name if isinstance(answer, ServingError) else _OK
    metrics.answered(model.name if model else "", status, began)
    reply(answer)


def _log(
    logger: CallLogger, servable_id: ServableId, asked: _Asked, answer: bytes | ServingError
) -> None:
    """Log a call that has an answer, where the logger's sample has it."""
    if isinstance(answer, ServingError) or not logger.is_sampled():
        return
    verb, signature_name, request, _ = asked
    size_bytes = len(request) + len(answer)
    logger.log(LoggedCall(verb, servable_id, signature_name, request, answer, size_bytes))


def _encode_metadata(metadata: ModelMetadata) -> bytes:
    response = protos.GetModelMetadataResponse()
    encode_model_spec(metadata.servable_id, response.model_spec)
    response.metadata[SIGNATURE_DEF].Pack(encode_signatures(metadata.signatures))
    return response.SerializeToString()


def _encode_multi_inference(results: Sequence[TaskResult]) -> bytes:
    response = protos.MultiInferenceResponse()
    for result in results:
        entry = response.results.add()
        encode_model_spec(result.servable_id, entry.model_spec, result.signature_name)
        if isinstance(result, ClassifyResult):
            entry.classification_result.SetInParent()
            encode_classification(result, entry.classification_result)
        else:
            entry.regression_result.SetInParent()
            encode_regression(result, entry.regression_result)
    return response.SerializeToString()


def _first_model(message: protos.MultiInferenceRequest) -> ModelSpec:
    """The model and version of the first task, which answer for all; nameless without tasks."""
    return decode_model_spec(message.tasks[0].model_spec) if message.tasks else ModelSpec("")


def _run_options(context: CallContext, api: str) -> RunOptions:
    return RunOptions(context.deadline, context.cancellation, Priority.NORMAL, api)


def _prioritized_run_options(context: CallContext, api: str) -> RunOptions:
    """Raises InvalidArgument for a priority that there is none of."""
    priority = requested_priority(context.metadata)
    return RunOptions(context.deadline, context.cancellation, priority, api)
