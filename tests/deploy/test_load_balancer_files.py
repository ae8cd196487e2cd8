"""The files for load balancers are what their programs take, and true of the server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from load_balancers import DIRECTORY, ENVOY, HOSTS, LOAD_BALANCERS, USUAL, LoadBalancer, Ports

RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"

every_balancer = pytest.mark.parametrize("balancer", LOAD_BALANCERS, ids=lambda each: each.name)


def envoy() -> dict[str, Any]:
    return yaml.safe_load(ENVOY.shipped)["static_resources"]


def routes() -> Iterator[dict[str, Any]]:
    for listener in envoy()["listeners"]:
        (chain,) = listener["filter_chains"]
        (manager,) = chain["filters"]
        yield from manager["typed_config"]["route_config"]["virtual_hosts"]


@every_balancer
def test_the_program_takes_the_file(balancer: LoadBalancer, tmp_path: Path) -> None:
    if balancer.program is None:
        pytest.skip(f"no {balancer.name}, neither on the PATH nor named by {balancer.variable}")
    servers = [Ports(1001, 1002), Ports(1003, 1004), Ports(1005, 1006)]
    check(balancer, balancer.adapted(Ports(1007, 1008), servers, tmp_path))


def test_envoy_takes_the_file_for_kubernetes() -> None:
    if ENVOY.program is None:
        pytest.skip(f"no envoy, neither on the PATH nor named by {ENVOY.variable}")
    check(ENVOY, DIRECTORY.parent / "kubernetes" / "components" / "envoy" / "envoy.yaml")


def check(balancer: LoadBalancer, file: Path) -> None:
    command = balancer.command(balancer.check, file)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecated" not in done.stderr


@every_balancer
def test_its_ports_and_those_of_the_servers_are_those_of_the_image(balancer: LoadBalancer) -> None:
    dockerfile = (DIRECTORY.parents[1] / "Dockerfile").read_text()
    exposed = re.search(r"^EXPOSE (\d+) (\d+)$", dockerfile, re.MULTILINE)
    assert exposed
    assert tuple(int(port) for port in exposed.groups()) == USUAL
    for port in USUAL:
        assert balancer.shipped.count(balancer.listener.format(port=port)) == 1
        for host in HOSTS:
            assert balancer.shipped.count(balancer.server.format(host=host, port=port)) == 1


@every_balancer
def test_no_reload_reaches_one_server_alone(balancer: LoadBalancer) -> None:
    assert RELOAD in balancer.shipped


def test_envoy_asks_every_server_for_health_and_takes_out_what_does_not_answer() -> None:
    over_grpc, over_rest = envoy()["clusters"]
    (check,) = over_grpc["health_checks"]
    assert check["grpc_health_check"] == {"service_name": ""}
    (check,) = over_rest["health_checks"]
    assert check["http_health_check"] == {"path": "/healthz/ready"}
    for cluster in (over_grpc, over_rest):
        assert cluster["outlier_detection"]["enforcing_consecutive_local_origin_failure"] == 100
        assert cluster["circuit_breakers"]["thresholds"][0]["retry_budget"]


def test_envoy_tries_again_elsewhere_and_leaves_deadlines_to_clients() -> None:
    over_grpc, over_rest = routes()
    for host in (over_grpc, over_rest):
        policy = host["retry_policy"]
        assert {"connect-failure", "reset"} <= set(policy["retry_on"].split(","))
        (predicate,) = policy["retry_host_predicate"]
        assert predicate["name"] == "envoy.retry_host_predicates.previous_hosts"
    assert "unavailable" in over_grpc["retry_policy"]["retry_on"].split(",")
    route = over_grpc["routes"][-1]["route"]
    assert route["timeout"] == "0s"
    assert route["max_stream_duration"] == {"grpc_timeout_header_max": "0s"}


def test_haproxy_asks_every_server_for_its_readiness() -> None:
    _, _, haproxy = LOAD_BALANCERS
    text = haproxy.shipped
    assert "option httpchk GET /healthz/ready" in text
    for name in ("one", "two", "three"):
        assert f"track model_servers_rest/{name}\n" in text
