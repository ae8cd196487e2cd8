"""The page of the REST API: every route is on it, and its examples answer as it shows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from exported_models import Exported, half_plus_two
from stock_clients import WAIT_SECONDS

from serving.apis.tensorflow_serving.rest.read_call import VERBS
from serving.apis.tensorflow_serving.rest.rest_api import PAGES
from serving.model_server import ModelServer
from serving.testing import running_server
from serving.transport.http_health import health_apps

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "rest_api.md").read_text()
METRICS = "/monitoring/prometheus/metrics"
ROUTES = set(re.findall(r"^\| (GET|POST) \| `([^`]+)` \|", PAGE, re.MULTILINE))


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    place = tmp_path_factory.mktemp("documentation")
    base = place / "half_plus_two"
    shutil.copytree(exported(half_plus_two), base / "123")
    monitoring = place / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with running_server(
        "--model_name=half_plus_two",
        f"--model_base_path={base}",
        f"--monitoring_config_file={monitoring}",
    ) as running:
        yield running


def test_every_route_is_on_the_page_and_the_page_has_no_other() -> None:
    model = "/v1/models/{model}"
    assert {
        *(("POST", f"{model}:{verb}") for verb in VERBS),
        *(("GET", path) for path in ("/v1/models", model, f"{model}/metadata")),
        *(("GET", path) for path in [*PAGES, *health_apps(lambda: ""), METRICS]),
    } == ROUTES


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_a_server_answers_on_every_route_of_the_page(
    server: ModelServer, method: str, path: str
) -> None:
    """A POST without a body is refused for that, and not because nobody knows it."""
    connection = HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_SECONDS)
    with closing(connection):
        connection.request(method, path.replace("{model}", "half_plus_two"))
        response = connection.getresponse()
        body = response.read()
    if method == "GET":
        assert response.status == 200
    else:
        assert json.loads(body) == {"error": "JSON Parse error: The document is empty"}


def examples() -> Iterator[tuple[str, str]]:
    """Each command of the page, with what it prints."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = example.partition("\n")
            yield command, printed


def test_every_route_has_an_example() -> None:
    commands = [command for command, _ in examples()]
    for _, path in ROUTES:
        address = f"http://localhost:8501{path.replace('{model}', 'half_plus_two')}"
        assert any(command.endswith(address) for command in commands), path


@pytest.mark.parametrize(("command", "printed"), list(examples()))
def test_an_example_prints_what_the_page_shows(
    server: ModelServer, tmp_path: Path, command: str, printed: str
) -> None:
    arguments = shlex.split(command.replace("localhost:8501", f"127.0.0.1:{server.rest_port}"))
    ended = subprocess.run(
        [*arguments, "-s"], cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    assert ended.stdout.decode().rstrip("\n") == printed.rstrip("\n")


def test_the_python_example_prints_what_the_page_shows(
    server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (printed,) = re.findall(r"# (\[.*)$", program, re.MULTILINE)
    exec(program.replace("localhost:8501", f"127.0.0.1:{server.rest_port}"), {})
    assert capsys.readouterr().out.strip() == printed
