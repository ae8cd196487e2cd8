"""Health over gRPC and HTTP follows the models of a whole server."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stock_clients import WAIT_SECONDS, await_, publish
from waiting import START_SECONDS

from serving.model_server import ModelServer
from serving.testing import running_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def table(directory: Path) -> None:
    """An exporter of a lookup table."""
    directory.mkdir(parents=True)
    (directory / "table.csv").write_text("some,value\n")


def readiness(server: ModelServer) -> tuple[int, str]:
    try:
        url = f"http://127.0.0.1:{server.rest_port}/healthz/ready"
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_follows_the_only_model_of_a_server(tmp_path: Path) -> None:
    publish(table, tmp_path / "m", 1)
    model = {"name": "m", "base_path": str(tmp_path / "m"), "model_platform": "hashmap"}
    config = tmp_path / "models.json"
    config.write_text(json.dumps({"model_config_list": [model]}))
    flags = ("--enable_grpc_healthcheck_service", "--version_settle_seconds=0")
    with (
        running_server(f"--model_config_file={config}", *flags) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        request = health_pb2.HealthCheckRequest(service="m")
        statuses = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=START_SECONDS)
        assert next(statuses).status == SERVING
        assert readiness(server) == (200, "ok\n")

        shutil.rmtree(tmp_path / "m" / "1")
        assert next(statuses).status == NOT_SERVING
        await_(lambda: readiness(server) == (503, "no model can be asked for\n"), lambda: "503")

        publish(table, tmp_path / "m", 2)
        assert next(statuses).status == SERVING
        await_(lambda: readiness(server) == (200, "ok\n"), lambda: "200")
        statuses.cancel()
