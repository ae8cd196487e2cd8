"""PredictionService: bytes in, bytes or the right error out, and every lease given back once."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from fake_models import FakeModels, call
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.apis.tensorflow_serving.prediction_service import PredictionOptions, PredictionService
from serving.apis.tensorflow_serving.tensor_codec import encode_tensor
from serving.core.call import CallContext
from serving.core.cancellation import Cancellation
from serving.core.dtypes import DType
from serving.core.errors import Code, InvalidArgument, ServingError
from serving.core.models import ModelSpec
from serving.core.priority import Priority
from serving.core.servable import RunOptions, Signature, TensorInfo
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import request_count

SERVICE = "/tensorflow.serving.PredictionService"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def info(name: str, dtype: DType = DType.FLOAT, shape=(None,)) -> TensorInfo:
    return TensorInfo(name, dtype, shape)


EXAMPLES = {"inputs": info("examples:0", DType.STRING)}
SIGNATURES = {
    "serving_default": Signature(
        {"x": info("x:0")}, {"y": info("y:0")}, "tensorflow/serving/predict"
    ),
    "two": Signature({"a": info("x:0"), "b": info("b:0")}, {"y": info("y:0")}),
    "classify": Signature(
        EXAMPLES, {"classes": info("c:0", DType.STRING), "scores": info("s:0")}, CLASSIFY
    ),
    "regress": Signature(EXAMPLES, {"outputs": info("r:0")}, REGRESS),
}


class Model:
    """Halves x and adds two; classifies by length; the value of an example is its length."""

    def __init__(self) -> None:
        self.signatures = dict(SIGNATURES)
        self.error: ServingError | None = None
        self.fed: list[bytes] = []
        self.options: RunOptions | None = None
        self.pending = None
        self.holds = False

    def run(self, feeds, fetches, options, done):
        self.options = options
        if self.holds:
            self.pending = lambda: done(self._compute(feeds, fetches))
        else:
            done(self.error or self._compute(feeds, fetches))

    def _compute(self, feeds, fetches):
        if "x:0" in feeds:
            return [feeds["x:0"] / np.float32(2) + np.float32(2)]
        self.fed = feeds["examples:0"].tolist()
        lengths = np.float32([len(example) for example in self.fed])
        outputs = {
            "c:0": np.array([[b"short", b"long\xff"]] * len(lengths), np.object_),
            "s:0": np.stack([1 / lengths, 1 - 1 / lengths], axis=1),
            "r:0": lengths,
        }
        return [outputs[fetch] for fetch in fetches]

    def close(self) -> None:
        pass


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def models(model) -> FakeModels:
    return FakeModels(model)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def service(models, metrics) -> PredictionService:
    return PredictionService(models, metrics)


def model_spec(
    signature_name="", name="m", version: int | None = None, label: str | None = None
) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name, version_label=label)
    if version is not None:
        spec.version.value = version
    return spec


def predict_request(spec=None, **inputs) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec=spec or model_spec())
    for alias, value in (inputs or {"x": [1.0, 2.0]}).items():
        encode_tensor(np.float32(value), request.inputs[alias])
    return request


def example(text: str) -> example_pb2.Example:
    message = example_pb2.Example()
    message.features.feature["text"].bytes_list.value.append(text.encode())
    return message


def examples_input(*texts: str) -> input_pb2.Input:
    return input_pb2.Input(
        example_list=input_pb2.ExampleList(examples=[example(text) for text in texts])
    )


def check_error(answer, code: Code, message: str) -> None:
    assert isinstance(answer, ServingError), answer
    assert (answer.code, answer.message) == (code, message)


class TestPredict:
    def test_answers_in_typed_fields_with_the_version_that_answered(self, service, model):
        context = CallContext(12.5)
        answer = call(service, f"{SERVICE}/Predict", predict_request(), context)
        response = predict_pb2.PredictResponse.FromString(answer)
        expected = predict_pb2.PredictResponse(model_spec=model_spec("serving_default", version=3))
        output = expected.outputs["y"]
        output.dtype = 1
        output.tensor_shape.dim.add(size=2)
        output.float_val.extend([2.5, 3.0])
        assert response == expected
        assert model.options == RunOptions(deadline=12.5, api="Predict")

    def test_writes_tensor_content_if_asked_for(self, models, metrics):
        service = PredictionService(models, metrics, PredictionOptions(tensor_content=True))
        answer = call(service, f"{SERVICE}/Predict", predict_request())
        output = predict_pb2.PredictResponse.FromString(answer).outputs["y"]
        assert output.tensor_content == np.float32([2.5, 3.0]).tobytes()
        assert len(output.float_val) == 0

    @pytest.mark.parametrize(
        ("spec", "resolved"),
        [
            (model_spec(version=2), ModelSpec("m", version=2)),
            (model_spec(label="stable"), ModelSpec("m", version_label="stable")),
            (model_spec(), ModelSpec("m")),
        ],
    )
    def test_the_model_spec_says_which_version_is_leased(self, service, models, spec, resolved):
        answer = call(service, f"{SERVICE}/Predict", predict_request(spec))
        assert models.leased == [resolved]
        answered = predict_pb2.PredictResponse.FromString(answer).model_spec
        assert answered == model_spec("serving_default", version=resolved.version or 3)

    def test_a_version_of_zero_is_a_version(self, service, models):
        call(service, f"{SERVICE}/Predict", predict_request(model_spec(version=0)))
        assert models.leased == [ModelSpec("m", version=0)]

    def test_an_unreadable_tensor_is_named(self, service, model):
        request = predict_request()
        request.inputs["x"].tensor_content = b"123"
        answer = call(service, f"{SERVICE}/Predict", request)
        check_error(answer, Code.INVALID_ARGUMENT, "tensor parsing error: x")
        assert model.options is None

    def test_the_engines_error_arrives_word_for_word(self, service, model):
        model.error = InvalidArgument("Expects arg[0] to be float but int32 is provided")
        assert call(service, f"{SERVICE}/Predict", predict_request()) is model.error

    def test_a_signature_of_another_method_is_refused_if_checked(self, models, metrics):
        service = PredictionService(models, metrics, PredictionOptions(check_method_name=True))
        answer = call(service, f"{SERVICE}/Predict", predict_request(model_spec("two"), a=1, b=2))
        assert answer.code is Code.INTERNAL

    def test_an_output_that_cannot_be_written_is_an_error_and_ends_the_lease(
        self, service, model, models, monkeypatch
    ):
        unwritable = [np.array(["2020-01-01"], "M8[D]")]
        monkeypatch.setattr(model, "_compute", lambda *_: unwritable)
        answer = call(service, f"{SERVICE}/Predict", predict_request())
        check_error(answer, Code.INVALID_ARGUMENT, "no tensor type for numpy type datetime64[D]")
        assert (models.leases, models.releases) == (1, 1)

    def test_leaves_no_reference_cycles_behind(self, service):
        """The collector would stop every call for them, and hold requests in memory until then.

        Other threads leave garbage too, but not every time.
        """

        def garbage_of_calls(request: bytes) -> int:
            gc.collect()
            for _ in range(100):
                call(service, f"{SERVICE}/Predict", request)
            return gc.collect()

        good = predict_request().SerializeToString()
        for request in (good, predict_request(model_spec("no such")).SerializeToString()):
            call(service, f"{SERVICE}/Predict", request)
            gc.disable()
            try:
                assert min(garbage_of_calls(request) for _ in range(5)) == 0
            finally:
                gc.enable()


class TestClassifyAndRegress:
    def test_classify_answers_label_and_score_of_every_example(self, service):
        request = classification_pb2.ClassificationRequest(
            model_spec=model_spec("classify"), input=examples_input("a", "abc")
        )
        answer = call(service, f"{SERVICE}/Classify", request)
        response = classification_pb2.ClassificationResponse.FromString(answer)
        assert response.model_spec == model_spec("classify", version=3)
        for row, text in zip(response.result.classifications, ("a", "abc"), strict=True):
            short = np.float32(1) / np.float32(example(text).ByteSize())
            assert [entry.label for entry in row.classes] == ["short", "long�"]
            assert [entry.score for entry in row.classes] == [short, np.float32(1) - short]

    def test_the_part_a_model_does_not_give_stays_empty(self, service, model):
        model.signatures["labels"] = Signature(EXAMPLES, {"classes": info("c:0", DType.STRING)})
        model.signatures["scores"] = Signature(EXAMPLES, {"scores": info("s:0")})
        entries = {}
        for name in ("labels", "scores"):
            request = classification_pb2.ClassificationRequest(
                model_spec=model_spec(name), input=examples_input("a")
            )
            answer = call(service, f"{SERVICE}/Classify", request)
            response = classification_pb2.ClassificationResponse.FromString(answer)
            (row,) = response.result.classifications
            entries[name] = row.classes[0]
        assert (entries["labels"].label, entries["labels"].score) == ("short", 0)
        assert entries["scores"].label == ""
        assert entries["scores"].score > 0

    def test_regress_answers_one_value_an_example(self, service):
        request = regression_pb2.RegressionRequest(
            model_spec=model_spec("regress"), input=examples_input("a", "abc")
        )
        answer = call(service, f"{SERVICE}/Regress", request)
        expected = regression_pb2.RegressionResponse(model_spec=model_spec("regress", version=3))
        for text in ("a", "abc"):
            expected.result.regressions.add(value=example(text).ByteSize())
        assert regression_pb2.RegressionResponse.FromString(answer) == expected

    def test_examples_reach_the_model_as_they_are(self, service, model):
        request = regression_pb2.RegressionRequest(
            model_spec=model_spec("regress"), input=examples_input("a", "b")
        )
        call(service, f"{SERVICE}/Regress", request)
        assert model.fed == [example("a").SerializeToString(), example("b").SerializeToString()]

    def test_a_context_precedes_every_example(self, service, model):
        context = example_pb2.Example()
        context.features.feature["country"].int64_list.value.append(49)
        both = input_pb2.ExampleListWithContext(
            context=context, examples=[example("a"), example("b")]
        )
        request = regression_pb2.RegressionRequest(
            model_spec=model_spec("regress"),
            input=input_pb2.Input(example_list_with_context=both),
        )
        call(service, f"{SERVICE}/Regress", request)
        for fed, text in zip(model.fed, ("a", "b"), strict=True):
            merged = example_pb2.Example.FromString(fed)
            assert merged.features.feature["country"] == context.features.feature["country"]
            assert merged.features.feature["text"].bytes_list.value == [text.encode()]

    @pytest.mark.parametrize("method", ["Classify", "Regress"])
    def test_an_input_without_examples_is_refused(self, service, method):
        request = classification_pb2.ClassificationRequest(model_spec=model_spec(method.lower()))
        answer = call(service, f"{SERVICE}/{method}", request)
        check_error(answer, Code.INVALID_ARGUMENT, "Input is empty.")

    @pytest.mark.parametrize(
        ("method", "signature", "noun"),
        [("Classify", "regress", "classification"), ("Regress", "classify", "regression")],
    )
    def test_the_method_name_is_checked_if_asked_for(
        self, models, metrics, method, signature, noun
    ):
        service = PredictionService(models, metrics, PredictionOptions(check_method_name=True))
        request = classification_pb2.ClassificationRequest(
            model_spec=model_spec(signature), input=examples_input("a")
        )
        answer = call(service, f"{SERVICE}/{method}", request)
        assert answer.message.startswith(f"Expected {noun} signature method_name to be")


class TestMultiInference:
    def request(self, *tasks) -> inference_pb2.MultiInferenceRequest:
        request = inference_pb2.MultiInferenceRequest(input=examples_input("a", "abc"))
        for spec, method in tasks:
            request.tasks.add(model_spec=spec, method_name=method)
        return request

    def test_answers_in_task_order_from_the_first_tasks_version(self, service, models):
        request = self.request(
            (model_spec("regress", version=2), REGRESS),
            (model_spec("classify", version=1), CLASSIFY),
        )
        answer = call(service, f"{SERVICE}/MultiInference", request)
        regressed, classified = inference_pb2.MultiInferenceResponse.FromString(answer).results
        assert regressed.WhichOneof("result") == "regression_result"
        assert [entry.value for entry in regressed.regression_result.regressions] == [
            example("a").ByteSize(),
            example("abc").ByteSize(),
        ]
        assert classified.WhichOneof("result") == "classification_result"
        assert len(classified.classification_result.classifications) == 2
        assert regressed.model_spec == model_spec("regress", version=2)
        assert classified.model_spec == model_spec("classify", version=2)
        assert (models.leased, models.releases) == ([ModelSpec("m", version=2)], 1)

    def test_no_tasks_name_no_model(self, service):
        answer = call(service, f"{SERVICE}/MultiInference", self.request())
        check_error(answer, Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")

    def test_is_not_counted(self, service, metrics):
        call(service, f"{SERVICE}/MultiInference", self.request((model_spec("regress"), REGRESS)))
        assert request_count(metrics).cells() == {}


class TestGetModelMetadata:
    def request(self, *fields, spec=None) -> get_model_metadata_pb2.GetModelMetadataRequest:
        return get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec or model_spec("ignored"), metadata_field=fields
        )

    def signatures(self, service) -> dict[str, meta_graph_pb2.SignatureDef]:
        answer = call(service, f"{SERVICE}/GetModelMetadata", self.request("signature_def"))
        response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(answer)
        assert response.model_spec == model_spec(version=3)
        assert list(response.metadata) == ["signature_def"]
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    def test_gives_every_signature_as_the_platform_described_it(self, service, model):
        original = meta_graph_pb2.SignatureDef(method_name="", inputs={"k": {"name": "k:0"}})
        original.outputs["init"].coo_sparse.values_tensor_name = "values:0"
        model.signatures = {
            "__saved_model_init_op": Signature({}, {}, encoded=original.SerializeToString())
        }
        assert self.signatures(service) == {"__saved_model_init_op": original}

    def test_builds_a_signature_from_what_is_known_of_it(self, service, model):
        model.signatures = {
            "s": Signature(
                {"x": info("x:0", DType.INT64, (None, 3))},
                {"y": info("y:0", DType.STRING, None)},
                "method",
                {"x": np.int64([7])},
            )
        }
        expected = meta_graph_pb2.SignatureDef(method_name="method")
        expected.inputs["x"].name, expected.inputs["x"].dtype = "x:0", 9
        expected.inputs["x"].tensor_shape.dim.add(size=-1)
        expected.inputs["x"].tensor_shape.dim.add(size=3)
        expected.outputs["y"].name, expected.outputs["y"].dtype = "y:0", 7
        expected.outputs["y"].tensor_shape.unknown_rank = True
        expected.defaults["x"].CopyFrom(tensor_pb2.TensorProto(dtype=9, int64_val=[7]))
        expected.defaults["x"].tensor_shape.dim.add(size=1)
        assert self.signatures(service) == {"s": expected}

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ([], "GetModelMetadataRequest must specify at least one metadata_field"),
            (["signature_def", "F"], "Metadata field F is not supported"),
        ],
    )
    def test_fields_are_checked_before_the_model(self, service, models, fields, message):
        request = self.request(*fields, spec=model_spec(name="unknown"))
        answer = call(service, f"{SERVICE}/GetModelMetadata", request)
        check_error(answer, Code.INVALID_ARGUMENT, message)
        assert models.leased == []

    def test_gives_the_lease_back(self, service, models):
        self.signatures(service)
        assert (models.leases, models.releases) == (1, 1)


REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
}


@pytest.mark.parametrize("method", REQUESTS)
def test_bytes_that_are_no_request_are_answered_as_grpc_servers_do(service, metrics, method):
    answer = call(service, f"{SERVICE}/{method}", b"\xff\xff")
    name = REQUESTS[method].DESCRIPTOR.full_name
    check_error(answer, Code.INTERNAL, f"Error parsing request: the bytes are not a {name}")
    assert request_count(metrics).cells() == {}


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress", "GetModelMetadata"])
def test_a_request_without_model_spec_is_refused(service, method):
    answer = call(service, f"{SERVICE}/{method}", REQUESTS[method]())
    check_error(answer, Code.INVALID_ARGUMENT, "Missing ModelSpec")


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress"])
def test_an_unknown_model_is_not_found_before_the_request_is_judged(service, method):
    request = REQUESTS[method](model_spec=model_spec("S", name="unknown"))
    answer = call(service, f"{SERVICE}/{method}", request)
    check_error(answer, Code.NOT_FOUND, "Servable not found for request: Latest(unknown)")


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress"])
def test_requests_are_counted_by_model_and_status(service, metrics, method):
    signature = {"Predict": ""}.get(method, method.lower())
    good = REQUESTS[method](model_spec=model_spec(signature))
    if method == "Predict":
        encode_tensor(np.float32([1]), good.inputs["x"])
    else:
        good.input.CopyFrom(examples_input("a"))
    for request in (good, good, REQUESTS[method](), REQUESTS[method](model_spec={"name": "n"})):
        call(service, f"{SERVICE}/{method}", request)
    assert request_count(metrics).cells() == {
        ("", "INVALID_ARGUMENT"): 1,
        ("m", "OK"): 2,
        ("n", "NOT_FOUND"): 1,
    }


LEASED_CALLS = {
    "success": predict_request(),
    "unknown signature": predict_request(model_spec("S")),
    "wrong inputs": predict_request(model_spec("two")),
    "left over": predict_request(None, z=1),
}


@pytest.mark.parametrize("request_", LEASED_CALLS.values(), ids=LEASED_CALLS)
def test_a_lease_is_given_back_once_however_the_call_ends(service, models, request_):
    call(service, f"{SERVICE}/Predict", request_)
    assert (models.leases, models.releases) == (1, 1)


def test_a_lease_is_given_back_once_when_the_run_fails(service, models, model):
    model.error = InvalidArgument("no")
    call(service, f"{SERVICE}/Predict", predict_request())
    assert (models.leases, models.releases) == (1, 1)


def test_a_lease_is_held_until_the_run_has_completed(service, models, model):
    model.holds = True
    answers = []
    handler = service.methods()[f"{SERVICE}/Predict"]
    handler(predict_request().SerializeToString(), CallContext(), answers.append)
    assert (models.releases, answers) == (0, [])
    model.pending()
    assert (models.releases, len(answers)) == (1, 1)


def valid_request(method):
    signature = {"Predict": "", "GetModelMetadata": ""}.get(method, method.lower())
    if method == "Predict":
        return predict_request()
    if method == "MultiInference":
        task = inference_pb2.InferenceTask(model_spec=model_spec("regress"), method_name=REGRESS)
        return REQUESTS[method](tasks=[task], input=examples_input("a"))
    if method == "GetModelMetadata":
        return REQUESTS[method](model_spec=model_spec(), metadata_field=["signature_def"])
    return REQUESTS[method](model_spec=model_spec(signature), input=examples_input("a"))


@pytest.mark.parametrize("method", REQUESTS)
def test_a_call_returns_while_its_model_loads_and_is_answered_later(service, models, method):
    models.loading, answers = [], []
    handler = service.methods()[f"{SERVICE}/{method}"]
    handler(valid_request(method).SerializeToString(), CallContext(5.0), answers.append)
    assert (answers, models.deadlines) == ([], [5.0])
    models.loading.pop()()
    assert [type(answer) for answer in answers] == [bytes]
    assert (models.leases, models.releases) == (1, 1)


RUNS = ["Predict", "Classify", "Regress", "MultiInference"]


@pytest.fixture
def prioritizing(models, metrics) -> PredictionService:
    return PredictionService(models, metrics, PredictionOptions(honor_priorities=True))


def answer_to(service, method, context):
    return call(service, f"{SERVICE}/{method}", valid_request(method), context)


@pytest.mark.parametrize("method", RUNS)
def test_the_run_hears_of_deadline_and_cancellation_of_its_call(service, model, method):
    cancellation = Cancellation()
    answer_to(service, method, CallContext(7.0, cancellation=cancellation))
    assert model.options.cancellation is cancellation
    assert model.options == RunOptions(7.0, cancellation, api=method)


@pytest.mark.parametrize("value", ["low", "urgent"])
def test_priorities_are_not_even_read_unless_they_are_honored(service, model, value):
    answer_to(service, "Predict", CallContext(metadata=[("x-request-priority", value)]))
    assert model.options == RunOptions(api="Predict")


@pytest.mark.parametrize("method", RUNS)
def test_the_run_has_the_priority_that_its_call_asks_for(prioritizing, model, method):
    cancellation = Cancellation()
    asked = [("user-agent", "x"), ("x-request-priority", "Low")]
    answer_to(prioritizing, method, CallContext(7.0, asked, cancellation))
    assert model.options == RunOptions(7.0, cancellation, Priority.LOW, method)

    answer_to(prioritizing, method, CallContext())
    assert model.options == RunOptions(api=method)


@pytest.mark.parametrize("method", RUNS)
def test_a_priority_that_there_is_none_of_is_refused(prioritizing, models, method):
    context = CallContext(metadata=[("x-request-priority", "urgent")])
    check_error(
        answer_to(prioritizing, method, context),
        Code.INVALID_ARGUMENT,
        "x-request-priority must be one of high, normal, low, not 'urgent'",
    )
    assert models.leases == 0


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress"])
def test_a_request_that_is_refused_for_its_priority_counts(prioritizing, metrics, method):
    context = CallContext(metadata=[("x-request-priority", "urgent")])
    answer_to(prioritizing, method, context)
    assert request_count(metrics).cells() == {("m", "INVALID_ARGUMENT"): 1}


def test_invented_names_leave_room_for_models(service, metrics):
    for number in range(102):
        call(service, f"{SERVICE}/Predict", predict_request(model_spec(name=f"x{number}")))
    call(service, f"{SERVICE}/Predict", predict_request(model_spec("S")))
    cells = request_count(metrics).cells()
    assert len(cells) == 102
    assert cells["(other)", "NOT_FOUND"] == 2
    assert sum(name == "m" for name, _ in cells) == 1
