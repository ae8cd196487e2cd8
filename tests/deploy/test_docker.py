"""What a container of the image does; every one of them has a network of its own, with nobody else.

For a machine with a Docker engine and the image: `docker build -t model-server .`, then
`scripts/test --slow tests/deploy/test_docker.py`. MODEL_SERVER_IMAGE names another image.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from exported_models import Exported, half_plus_two
from waiting import START_SECONDS, await_

IMAGE = os.environ.get("MODEL_SERVER_IMAGE", "model-server")
LOCKED_DOWN = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
REST = """
import json, urllib.request
body = json.dumps({"instances": [1.0, 2.0]}).encode()
url = "http://localhost:8501/v1/models/half_plus_two:predict"
print(json.load(urllib.request.urlopen(url, body))["predictions"])
"""
GRPC = """
import grpc, numpy, tensorflow
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
request = predict_pb2.PredictRequest()
request.model_spec.name = "half_plus_two"
request.inputs["x"].CopyFrom(tensorflow.make_tensor_proto([1.0, 2.0]))
stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel("localhost:8500"))
print(tensorflow.make_ndarray(stub.Predict(request, timeout=60).outputs["y"]).tolist())
"""


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["docker", *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True)


def image_is_there() -> bool:
    return (
        shutil.which("docker") is not None
        and docker("image", "inspect", IMAGE, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif("not image_is_there()", reason=f"no Docker engine with an image {IMAGE}"),
]


class Container:
    """A container by its id."""

    def __init__(self, id_: str) -> None:
        self.id = id_

    def state(self, field: str) -> str:
        return docker("inspect", f"--format={{{{.State.{field}}}}}", self.id).stdout.strip()

    def logs(self) -> str:
        shown = docker("logs", self.id)
        return shown.stdout + shown.stderr

    def python(self, program: str) -> str:
        return docker("exec", self.id, "python", "-c", program).stdout.strip()

    def await_ready(self) -> None:
        probe = "import urllib.request as u; u.urlopen('http://localhost:8501/healthz/ready')"
        await_(
            lambda: not docker("exec", self.id, "python", "-c", probe, check=False).returncode,
            self.logs,
            START_SECONDS,
        )

    def await_end(self) -> int:
        await_(lambda: self.state("Status") == "exited", self.logs, START_SECONDS)
        return int(self.state("ExitCode"))


@contextmanager
def running(*arguments: str, flags: tuple[str, ...] = ()) -> Iterator[Container]:
    started = docker("run", "--detach", "--network=none", *arguments, IMAGE, *flags)
    container = Container(started.stdout.strip())
    try:
        yield container
    finally:
        docker("rm", "--force", container.id)


@pytest.fixture
def model(exported: Exported) -> tuple[str, ...]:
    """What brings half_plus_two into a container, as the documentation of upstream's image says."""
    base = exported(half_plus_two).parent
    for path in (base, *base.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return ("--volume", f"{base}:/models/half_plus_two:ro", "--env", "MODEL_NAME=half_plus_two")


def test_it_predicts_over_both_ports_is_healthy_and_stops_with_0(model: tuple[str, ...]) -> None:
    with running(*model) as container:
        container.await_ready()
        assert container.python(REST) == "[2.5, 3.0]"
        assert container.python(GRPC) == "[2.5, 3.0]"
        await_(lambda: container.state("Health.Status") == "healthy", container.logs)
        docker("stop", "--time=60", container.id)
        assert container.state("ExitCode") == "0"


@pytest.mark.parametrize("user", ["10001", "12345:12345"])
def test_it_needs_no_rights_and_nothing_to_write_to(model: tuple[str, ...], user: str) -> None:
    with running(*model, *LOCKED_DOWN, f"--user={user}") as container:
        container.await_ready()
        assert container.python(REST) == "[2.5, 3.0]"


def test_flags_behind_the_image_are_the_servers(model: tuple[str, ...]) -> None:
    with running(*model, flags=("--rest_api_port=8777",)) as container:
        probe = REST.replace("8501", "8777")
        await_(
            lambda: not docker("exec", container.id, "python", "-c", probe, check=False).returncode,
            container.logs,
            START_SECONDS,
        )


def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with running() as container:
        line = "Could not find base path /models/model for servable model"
        await_(lambda: line in container.logs(), container.logs, START_SECONDS)
        assert container.state("Status") == "running"  # it may come yet
        docker("stop", "--time=60", container.id)
        assert container.state("ExitCode") == "0"


def test_a_value_that_is_none_ends_it_with_the_reason() -> None:
    with running(flags=("--port=many",)) as container:
        assert container.await_end() == 255
        assert "port" in container.logs()


def test_a_port_in_use_ends_a_second_server_with_the_reason(model: tuple[str, ...]) -> None:
    with running(*model) as container:
        container.await_ready()
        entry = "/usr/bin/model_server_entrypoint.sh"
        second = docker("exec", container.id, entry, "--rest_api_port=0", check=False)
        assert second.returncode == 255
        assert "8500" in second.stdout + second.stderr


def test_a_stop_while_models_load_ends_with_0(model: tuple[str, ...]) -> None:
    with running(*model) as container:
        # The first process of a container ignores signals that it has no handler for yet.
        await_(container.logs, lambda: "TensorFlow's first words", START_SECONDS)
        docker("stop", "--time=60", container.id)
        assert container.state("ExitCode") == "0"


def test_both_names_are_on_the_path_and_no_compiler_is() -> None:
    names = "model_server tensorflow_model_server cc gcc make pip"
    script = f"for name in {names}; do command -v $name; done; id -u"
    shown = docker("run", "--rm", "--network=none", "--entrypoint=sh", IMAGE, "-c", script).stdout
    assert [Path(line).name for line in shown.split()] == [
        "model_server",
        "tensorflow_model_server",
        "10001",
    ]


def test_what_the_image_says_of_itself() -> None:
    (config,) = json.loads(docker("image", "inspect", IMAGE).stdout)
    labels = config["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Config"]["Entrypoint"][0].startswith("/")
    assert set(config["Config"]["ExposedPorts"]) == {"8500/tcp", "8501/tcp"}
