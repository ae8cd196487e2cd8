"""ModelService: states as they are seen, and a new configuration over the wire."""

from __future__ import annotations

import pytest
from fake_models import FakeModels, call
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.apis.tensorflow_serving.model_service import ModelService
from serving.core.errors import Code, InvalidArgument, ServingError, Unknown
from serving.core.model_config import ModelConfig
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.registry import Metrics
from serving.testing import FakeServable, InlineExecutor

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


@pytest.fixture
def models() -> FakeModels:
    models = FakeModels(FakeServable())
    models.states["m"] = [
        ServableState(ServableId("m", 7), ManagerState.AVAILABLE),
        ServableState(ServableId("m", 5), ManagerState.END, InvalidArgument("no graph")),
    ]
    return models


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def service(models, metrics) -> ModelService:
    return ModelService(models, metrics, InlineExecutor())


def check_error(answer, code: Code, message: str) -> None:
    assert isinstance(answer, ServingError), answer
    assert (answer.code, answer.message) == (code, message)


class TestGetModelStatus:
    def ask(self, service, **spec):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.SetInParent()
        request.model_spec.name = spec.get("name", "")
        if "version" in spec:
            request.model_spec.version.value = spec["version"]
        elif "label" in spec:
            request.model_spec.version_label = spec["label"]
        answer = call(service, STATUS, request)
        if isinstance(answer, ServingError):
            return answer
        return get_model_status_pb2.GetModelStatusResponse.FromString(answer)

    def check_both_versions(self, response) -> None:
        available, failed = response.model_version_status
        assert (available.version, available.state) == (7, available.AVAILABLE)
        assert available.HasField("status")
        assert (available.status.error_code, available.status.error_message) == (0, "")
        assert (failed.version, failed.state) == (5, failed.END)
        assert (failed.status.error_code, failed.status.error_message) == (3, "no graph")

    def test_lists_every_version_highest_first_with_its_error(self, service):
        self.check_both_versions(self.ask(service, name="m"))

    def test_a_label_is_not_looked_at(self, service):
        self.check_both_versions(self.ask(service, name="m", label="unknown"))

    def test_a_version_gives_that_one(self, service):
        (only,) = self.ask(service, name="m", version=5).model_version_status
        assert only.version == 5

    @pytest.mark.parametrize("state", ManagerState)
    def test_states_keep_their_numbers_on_the_wire(self, service, models, state):
        models.states["m"] = [ServableState(ServableId("m", 1), state)]
        (only,) = self.ask(service, name="m").model_version_status
        assert get_model_status_pb2.ModelVersionStatus.State.Name(only.state) == state.name

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ({"name": "n"}, "Could not find any versions of model n"),
            ({"name": ""}, "Could not find any versions of model "),
            ({"name": "m", "version": 6}, "Could not find version 6 of model m"),
            ({"name": "m", "version": 0}, "Could not find version 0 of model m"),
        ],
    )
    def test_what_was_never_seen_is_not_found(self, service, spec, message):
        check_error(self.ask(service, **spec), Code.NOT_FOUND, message)

    def test_a_request_without_model_spec_is_refused(self, service):
        answer = call(service, STATUS, get_model_status_pb2.GetModelStatusRequest())
        check_error(answer, Code.INVALID_ARGUMENT, "Missing ModelSpec")


class TestHandleReloadConfigRequest:
    def request(self, *names: str, metrics=()) -> model_management_pb2.ReloadConfigRequest:
        request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
        request.config.model_config_list.SetInParent()
        for name in names:
            request.config.model_config_list.config.add(
                name=name, base_path=f"/models/{name}", model_platform="tensorflow"
            )
        return request

    def ask(self, service, request) -> model_management_pb2.ReloadConfigResponse:
        return model_management_pb2.ReloadConfigResponse.FromString(call(service, RELOAD, request))

    def test_the_models_listed_are_served_from_now_on(self, service, models):
        response = self.ask(service, self.request("a", "b"))
        assert models.reloads == [[ModelConfig("a", "/models/a"), ModelConfig("b", "/models/b")]]
        assert response.HasField("status")
        assert (response.status.error_code, response.status.error_message) == (0, "")

    def test_an_empty_list_serves_nothing(self, service, models):
        self.ask(service, self.request())
        assert models.reloads == [[]]

    def test_the_error_of_the_reload_is_the_callers(self, service, models):
        models.reload_error = Unknown("1 model(s) did not become available: {…}")
        assert call(service, RELOAD, self.request("a")) is models.reload_error

    def test_a_refusal_is_the_callers_as_well(self, service, models):
        models.refusal = InvalidArgument("Illegal to list model a multiple times in config list")
        assert call(service, RELOAD, self.request("a")) is models.refusal

    @pytest.mark.parametrize("kind", ["unset", "custom"])
    def test_only_a_list_of_models_is_taken(self, service, models, kind):
        config = model_server_config_pb2.ModelServerConfig()
        if kind == "custom":
            config.custom_model_config.type_url = "type.googleapis.com/x"
        request = model_management_pb2.ReloadConfigRequest(config=config)
        check_error(
            call(service, RELOAD, request),
            Code.INVALID_ARGUMENT,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        )
        assert models.reloads == []

    def test_a_model_that_is_wrong_in_itself_is_refused(self, service, models):
        request = self.request("a")
        request.config.model_config_list.config[0].model_platform = ""
        assert call(service, RELOAD, request).code is Code.INVALID_ARGUMENT
        assert models.reloads == []

    def test_metrics_named_are_answered_with_their_increase(self, service, models, metrics):
        loads = metrics.counter("/loads", "", ("model",))
        loads.increment("a", by=5)
        reload = models.begin_reload
        models.begin_reload = lambda configs, done: (
            loads.increment("a", by=2),
            reload(configs, done),
        )
        request = self.request("a", metrics=["/loads", "/unknown"])
        increases = [
            (metric.name, metric.int64_value_increase)
            for metric in self.ask(service, request).metric
        ]
        assert increases == [("/loads", 2), ("/unknown", 0)]

    def test_a_defect_is_answered_without_its_text(self, service, models, caplog):
        models.refusal = RuntimeError("/secret/path")
        check_error(call(service, RELOAD, self.request("a")), Code.INTERNAL, "internal error")
        assert "/secret/path" in caplog.text

    def test_the_callers_thread_does_not_wait_for_the_models(self, models, metrics):
        submitted = []

        class Later(InlineExecutor):
            def submit(self, fn, /, *args, **kwargs):
                submitted.append(fn)

        service = ModelService(models, metrics, Later())
        with pytest.raises(ValueError, match="not enough values"):  # no answer yet
            call(service, RELOAD, self.request("a"))
        assert (len(submitted), models.reloads) == (1, [])


@pytest.mark.parametrize("method", [STATUS, RELOAD])
def test_bytes_that_are_no_request_are_an_error(service, method):
    assert call(service, method, b"\xff\xff").code is Code.INTERNAL
