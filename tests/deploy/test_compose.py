"""The composition, read and run by a real engine; the ports that it publishes have to be free.

Run as `tests/deploy/test_docker.py` says, where `docker compose` or `docker-compose` is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from containers import Container, docker
from waiting import START_SECONDS, await_

FILE = Path(__file__).parents[2] / "deploy" / "docker" / "compose.yaml"
SCRAPED = """
import urllib.request
print(urllib.request.urlopen("http://prometheus:9090/api/v1/targets").read().decode())
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("image"),
]

Compose = Callable[..., str]


def command() -> list[str]:
    """The plugin of the engine's client, or the program that was before it."""
    if shutil.which("docker") and docker("compose", "version", check=False).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


@pytest.fixture
def compose(base_path: Path) -> Iterator[Compose]:
    if not command():
        pytest.skip("no docker compose")
    environment = {**os.environ, "MODELS": str(base_path.parent), "MODEL_NAME": base_path.name}

    def run(*arguments: str) -> str:
        line = [*command(), "--project-name=composed", f"--file={FILE}", *arguments]
        ran = subprocess.run(line, env=environment, check=True, capture_output=True, text=True)
        return ran.stdout

    base_path.parent.chmod(0o755)
    try:
        yield run
    finally:
        run("down")


def test_it_is_read(compose: Compose) -> None:
    services = yaml.safe_load(compose("config"))["services"]
    assert services["model-server"]["environment"] == {"MODEL_NAME": "half_plus_two"}


def test_the_server_serves_and_stops_with_0(compose: Compose) -> None:
    compose("up", "--detach", "--no-build", "model-server")
    server = Container(compose("ps", "--quiet", "model-server").strip())
    server.await_ready()
    assert server.predict("half_plus_two", {"instances": [1.0]}) == {"predictions": [2.5]}
    compose("stop")
    assert server.state("ExitCode") == "0"


def test_prometheus_reads_the_servers_metrics(compose: Compose) -> None:
    image = yaml.safe_load(FILE.read_text())["services"]["prometheus"]["image"]
    if docker("image", "inspect", image, check=False).returncode:
        pytest.skip(f"the image {image} is not on this machine")
    compose("up", "--detach", "--no-build")
    server = Container(compose("ps", "--quiet", "model-server").strip())
    server.await_ready()

    def healthy() -> bool:
        answer = json.loads(server.python(SCRAPED, check=False) or "{}")
        targets = answer.get("data", {}).get("activeTargets", [])
        return [target["health"] for target in targets] == ["up"]

    await_(healthy, server.logs, START_SECONDS)
