"""The health service knows models and their versions, and those who watch hear of changes."""

import contextlib

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import WAIT_SECONDS

from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from serving.transport.health import HAS_LIST

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Models:
    """What is served, as the test says."""

    def __init__(self):
        self.served = {("m", None): True, ("m", 7): True, ("m", 6): False, ("team/m", None): True}

    def is_answering(self, name, version=None):
        return self.served.get((name, version))

    def model_names(self):
        return ["m", "team/m"]


@pytest.fixture
def models():
    return Models()


@pytest.fixture
def server(grpc_engine, models):
    options = GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", health_service=True)
    server = GrpcServer(options, {}, model_health=models)
    server.start()
    server.set_serving(True)
    yield server
    server.stop(0)


@pytest.fixture
def health(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)


def check(health, key):
    return health.Check(health_pb2.HealthCheckRequest(service=key), timeout=WAIT_SECONDS).status


@contextlib.contextmanager
def watching(health, key):
    """The statuses of a key, one after the other."""
    watch = health.Watch(health_pb2.HealthCheckRequest(service=key), timeout=WAIT_SECONDS)
    try:
        yield (answer.status for answer in watch)
    finally:
        watch.cancel()


@pytest.mark.parametrize(
    ("key", "status"),
    [("m", SERVING), ("m/7", SERVING), ("m/6", NOT_SERVING), ("team/m", SERVING)],
)
def test_a_model_and_its_versions_are_keys(health, key, status):
    assert check(health, key) == status


@pytest.mark.parametrize("key", ["n", "m/5", "m/x", "m/", "/7", "n/7", f"m/{'9' * 5000}", "team"])
def test_what_is_not_known_is_not_found(health, key):
    with pytest.raises(grpc.RpcError) as caught:
        check(health, key)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_keys_of_tensorflow_serving_are_no_models(health, models):
    models.served["PredictionService", None] = False

    assert check(health, "PredictionService") == SERVING


@pytest.mark.skipif(not HAS_LIST, reason="grpcio-health-checking is older than health lists")
def test_a_list_has_the_server_its_services_and_the_models(health):
    request = health_pb2.HealthListRequest()
    statuses = health.List(request, timeout=WAIT_SECONDS).statuses

    assert {key: answer.status for key, answer in statuses.items()} == dict.fromkeys(
        ("", "ModelService", "PredictionService", "m", "team/m"), SERVING
    )


def test_who_watches_a_model_hears_of_each_change_once(server, health, models):
    with watching(health, "m") as statuses:
        assert next(statuses) == SERVING

        server.model_changed("m")  # to what it was
        models.served["m", None] = False
        server.model_changed("m")
        assert next(statuses) == NOT_SERVING

        del models.served["m", None]
        server.model_changed("m")
        assert next(statuses) == SERVICE_UNKNOWN


def test_who_watches_a_version_hears_when_it_becomes_known_and_serves(server, health, models):
    with watching(health, "m/8") as statuses:
        assert next(statuses) == SERVICE_UNKNOWN

        models.served["m", 8] = False
        server.model_changed("m")
        assert next(statuses) == NOT_SERVING

        models.served["m", 8] = True
        server.model_changed("m")
        assert next(statuses) == SERVING


def test_no_model_serves_once_the_server_drains(server, health):
    with watching(health, "m/7") as statuses:
        assert next(statuses) == SERVING

        server.set_serving(False)

        assert next(statuses) == NOT_SERVING
        assert check(health, "m") == NOT_SERVING
