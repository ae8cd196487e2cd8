"""What a container of the image does; every one of them has a network of its own, with nobody else.

For a machine with a Docker engine and the image: `docker build -t model-server .`, then
`scripts/test --slow tests/deploy`. MODEL_SERVER_IMAGE names another image. With
MODEL_SERVER_BUILD_GPU=1 the one with CUDA is built, too, of 6.5 GB.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from containers import IMAGE, docker, running
from waiting import START_SECONDS, await_

ROOT = Path(__file__).parents[2]
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
HAS_CUDA = "import tensorflow; print(tensorflow.test.is_built_with_cuda())"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("image"),
]


def test_it_predicts_over_both_ports_is_healthy_and_stops_with_0(model: tuple[str, ...]) -> None:
    with running(*model) as container:
        container.await_ready()
        assert container.python(REST) == "[2.5, 3.0]"
        assert container.python(GRPC) == "[2.5, 3.0]"
        await_(lambda: container.state("Health.Status") == "healthy", container.logs)
        assert container.stop() == 0


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


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("MODEL_SERVER_BUILD_GPU"), reason="builds 6.5 GB")
def test_the_image_with_cuda_is_built_and_serves_without_a_gpu(model: tuple[str, ...]) -> None:
    name = "model-server:latest-gpu"
    docker("build", f"--tag={name}", "--build-arg=VARIANT=gpu", str(ROOT))
    with running(*model, image=name) as container:
        container.await_ready()
        assert container.python(HAS_CUDA) == "True"
        assert container.python(REST) == "[2.5, 3.0]"
        assert container.python(GRPC) == "[2.5, 3.0]"
        assert container.stop() == 0


def test_the_licence_that_packages_bring_no_copy_of_is_in_it() -> None:
    command = ("--rm", "--network=none", "--entrypoint=cat", IMAGE, "/opt/model_server/LICENSE")
    assert docker("run", *command).stdout == (ROOT / "LICENSE").read_text()
