"""TLS as operators set it up: a file, both ports, several workers, a renewed certificate."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from certificates import Authority, ssl_config
from program import RunningProgram, program
from stock_clients import WAIT_SECONDS, await_, publish
from tensorflow_serving.apis import get_model_status_pb2 as status
from tensorflow_serving.apis import model_service_pb2_grpc as model_service
from waiting import START_SECONDS

from serving.core.errors import InvalidArgument
from serving.model_server import ModelServer
from serving.testing import running_server


def table(directory: Path) -> None:
    """An exporter of a lookup table."""
    directory.mkdir(parents=True)
    (directory / "table.csv").write_text("some,value\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def config(place: Path) -> str:
    """The flag for a model that loads in no time."""
    publish(table, place / "m", 1)
    model = {"name": "m", "base_path": str(place / "m"), "model_platform": "hashmap"}
    path = place / "models.json"
    path.write_text(json.dumps({"model_config_list": [model]}))
    return f"--model_config_file={path}"


@pytest.fixture(scope="module")
def old(place: Path) -> Authority:
    (place / "old").mkdir()
    return Authority(place / "old")


@pytest.fixture(scope="module")
def ssl_file(place: Path, old: Authority) -> Path:
    path = place / "ssl.config"
    path.write_text(ssl_config(old.issue("server")))
    return path


@pytest.fixture(scope="module")
def running(config: str, ssl_file: Path) -> Iterator[RunningProgram]:
    flags = (f"--ssl_config_file={ssl_file}", "--ssl_config_file_poll_wait_seconds=1")
    workers = ("--num_workers=2", "--version_settle_seconds=0")
    with program(config, *flags, "--rest_api_ssl", *workers) as started:
        started.await_log("2 workers serve", START_SECONDS)
        yield started


def is_available_by_grpc(running: RunningProgram, ca: Authority) -> bool:
    """Raises RpcError where the certificate is none of this CA's."""
    credentials = grpc.ssl_channel_credentials(ca.cert.encode())
    request = status.GetModelStatusRequest()
    request.model_spec.name = "m"
    with grpc.secure_channel(f"localhost:{running.grpc_port}", credentials) as channel:
        stub = model_service.ModelServiceStub(channel)
        (version,) = stub.GetModelStatus(request, timeout=WAIT_SECONDS).model_version_status
    return version.state == status.ModelVersionStatus.AVAILABLE


def rest_status(running: RunningProgram | ModelServer, ca: Authority) -> int:
    """Raises SSLCertVerificationError where the certificate is none of this CA's."""
    context = ssl.create_default_context(cafile=ca.cert_file)
    connection = http.client.HTTPSConnection(
        "localhost", running.rest_port, timeout=WAIT_SECONDS, context=context
    )
    with closing(connection):
        connection.request("GET", "/v1/models/m")
        return connection.getresponse().status


def test_workers_serve_both_ports_by_tls_and_follow_the_file(
    running: RunningProgram, ssl_file: Path, old: Authority, place: Path
) -> None:
    assert is_available_by_grpc(running, old)
    assert rest_status(running, old) == 200

    (place / "new").mkdir()
    new = Authority(place / "new")
    ssl_file.write_text(ssl_config(new.issue("server")))
    told = "new connections are shown the certificate"
    await_(lambda: running.log.count(told) == 2, lambda: running.log)

    assert is_available_by_grpc(running, new)
    assert rest_status(running, new) == 200


def test_a_bad_certificate_ends_the_start_before_models_load(
    config: str, place: Path, old: Authority
) -> None:
    bad = place / "bad.config"
    bad.write_text(ssl_config(old.issue("bad")).replace("BEGIN CERTIFICATE", "BEGIN"))
    with (
        pytest.raises(InvalidArgument, match="TLS cannot use server_key"),
        running_server(config, f"--ssl_config_file={bad}"),
    ):
        pytest.fail("it serves")


def test_rest_stays_plain_unless_it_is_asked_for(config: str, ssl_file: Path) -> None:
    """As with TensorFlow Serving, whose REST clients would be shut out."""
    with running_server(config, f"--ssl_config_file={ssl_file}") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_SECONDS)
        with closing(connection):
            connection.request("GET", "/v1/models/m")
            assert connection.getresponse().status == 200


def test_a_key_and_a_certificate_in_files_make_rest_https(config: str, old: Authority) -> None:
    pair = old.issue("files")
    flags = (f"--ssl_key_file={pair.key_file}", f"--ssl_certificate_file={pair.cert_file}")
    with running_server(config, *flags, "--rest_api_ssl") as server:
        assert rest_status(server, old) == 200
