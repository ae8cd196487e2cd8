"""The page of metrics of a whole server, after real calls, as Prometheus' own parser reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from exported_models import Exported, half_plus_two
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from stock_clients import WAIT_SECONDS, Client, client_of, predict_request, spec

from serving.model_server import ModelServer
from serving.testing import running_server

PATH = "/monitoring/prometheus/metrics"
PREFIX = ":tensorflow:serving:"


def fetch(server: ModelServer, target: str, method: str = "GET", body: str = "") -> tuple:
    """Status, type and text."""
    with closing(HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_SECONDS)) as connection:
        connection.request(method, target, body)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        return response.status, response.headers["content-type"], text


class Page:
    """What the page of a server says at one moment."""

    def __init__(self, server: ModelServer) -> None:
        status, content_type, self.text = fetch(server, PATH)
        assert (status, content_type) == (200, "text/plain")
        self.families = {each.name: each for each in text_string_to_metric_families(self.text)}

    def samples(self, name: str, **labels: str) -> list[Sample]:
        """Those of a metric; the parser calls any counter ``…_total``."""
        return [
            sample
            for family in self.families.values()
            for sample in family.samples
            if sample.name in (name, f"{name}_total") and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self.samples(name, **labels))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monitoring")


@pytest.fixture(scope="module")
def monitoring(place: Path) -> str:
    """The flag that has the page published."""
    (place / "monitoring.config").write_text("prometheus_config { enable: true }")
    return f"--monitoring_config_file={place / 'monitoring.config'}"


@pytest.fixture(scope="module")
def server(exported: Exported, monitoring: str) -> Iterator[ModelServer]:
    base = exported(half_plus_two).parent
    with running_server("--model_name=m", f"--model_base_path={base}", monitoring) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ModelServer) -> Iterator[Client]:
    with client_of(server.grpc_port) as client:
        yield client


def test_a_query_is_refused_with_both_paths(server: ModelServer) -> None:
    text = f"Unexpected path: {PATH}?x=1. Should be {PATH}"
    assert fetch(server, f"{PATH}?x=1") == (400, "text/plain", text)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_any_method_will_do(server: ModelServer, method: str) -> None:
    status, _, text = fetch(server, PATH, method, "x")
    assert status == 200
    assert text.startswith("# TYPE ")


def test_the_rest_of_the_port_is_as_it_was(server: ModelServer) -> None:
    assert fetch(server, f"{PATH}/x")[0] == 404
    assert fetch(server, "/v1/models/m")[0] == 200


def test_there_is_no_page_unless_it_is_configured(exported: Exported) -> None:
    base = exported(half_plus_two).parent
    with running_server("--model_name=m", f"--model_base_path={base}") as server:
        assert fetch(server, PATH)[0] == 404


def test_the_page_is_where_the_file_says(exported: Exported, tmp_path: Path) -> None:
    base = exported(half_plus_two).parent
    file = tmp_path / "monitoring.config"
    file.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ("--model_name=m", f"--model_base_path={base}", f"--monitoring_config_file={file}")
    with running_server(*flags) as server:
        assert fetch(server, "/metrics")[0] == 200
        assert fetch(server, PATH)[0] == 404


def test_grpc_calls_are_counted_and_timed(server: ModelServer, client: Client) -> None:
    before = Page(server)
    client.call("Predict", predict_request(spec("m"), x=[1.0]))
    client.failure("Predict", predict_request(spec("none"), x=[1.0]))
    after = Page(server)

    def increase(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert increase(f"{PREFIX}request_count", model_name="m", status="OK") == 1
    assert increase(f"{PREFIX}request_count", model_name="none", status="NOT_FOUND") == 1
    labels = {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"}
    assert increase(f"{PREFIX}request_latency_count", **labels) == 1
    assert increase(f"{PREFIX}request_latency_sum", **labels) > 0
    assert increase(f"{PREFIX}request_latency_count", model_name="none") == 0


def test_rest_calls_are_counted_and_timed(server: ModelServer) -> None:
    before = Page(server)
    assert fetch(server, "/v1/models/m:predict", "POST", '{"instances": [1.0]}')[0] == 200
    assert fetch(server, "/v1/models/m")[0] == 200
    assert fetch(server, "/v1/models/m:nonsense", "POST")[0] == 400
    after = Page(server)

    def increase(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert increase(f"{PREFIX}request_count", model_name="m", status="OK") == 2
    assert increase(f"{PREFIX}request_count", model_name="", status="INVALID_ARGUMENT") == 1
    for api in ("predict", ""):
        labels = {"model_name": "m", "API": api, "entrypoint": "REST"}
        assert increase(f"{PREFIX}request_latency_count", **labels) == 1


def test_names_that_are_no_text_do_not_spoil_the_page(server: ModelServer) -> None:
    fetch(server, "/v1/models/%ff%22%0a")
    page = Page(server)
    assert page.value(f"{PREFIX}request_count", model_name='?"\n', status="NOT_FOUND") >= 1
