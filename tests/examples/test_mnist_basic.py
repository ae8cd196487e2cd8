"""The mnist_basic example: the commands of its README, and what its service promises."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
import tensorflow as tf

from serving.batching.batching_options import QueueOptions
from serving.core.errors import FailedPrecondition
from serving.generated.mnist_inference_pb2 import MnistRequest, MnistResponse
from serving.session_bundle_exporter import Exporter, classification_signature, regression_signature

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "mnist_basic"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
WAIT_SECONDS = 300
v1 = tf.compat.v1
pytestmark = pytest.mark.timeout(900)  # programs that import TensorFlow, beside other tests


def commands() -> list[str]:
    """Those of the README, in its order."""
    blocks = re.findall(r"```console\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def arguments_of(command: str, models: Path, address: str = "") -> list[str]:
    """What the command starts, here, with its models in this directory and any free port."""
    command = command.replace("127.0.0.1:9000", address).replace("--port=9000", "--port=0")
    program, script, *rest = shlex.split(command.replace("models/mnist", str(models)))
    assert program == ".venv/bin/python"
    return [sys.executable, str(ROOT / script), *rest]


def run(arguments: list[str]) -> str:
    """What it prints; fails where the program does."""
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(arguments: list[str]) -> Iterator[str]:
    """The server as a process; yields its address, and sees that it ends well."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        arguments, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT
    ) as process:
        # What it reports is read all along: a full pipe would hold it up.
        report: list[str] = []
        reader = threading.Thread(target=lambda: report.extend(process.stderr), daemon=True)
        reader.start()
        try:
            found = re.fullmatch(r"Running MnistService at (.*)\n", process.stdout.readline())
            if found is None:
                process.wait(WAIT_SECONDS)
                reader.join(WAIT_SECONDS)
                pytest.fail("the server ended before it listened:\n" + "".join(report))
            yield found[1]
        finally:
            process.terminate()
    assert process.returncode == 0


def error_rate(output: str) -> float:
    return float(re.search(r"^Inference error rate: ([\d.]+)%$", output, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions that the README exports: a SessionBundle, then a SavedModel."""
    models = tmp_path_factory.mktemp("mnist")
    exports = [command for command in commands() if "mnist_export.py" in command]
    for version, command in enumerate(exports, 1):
        output = run(arguments_of(command, models))
        assert re.fullmatch(
            rf"accuracy on held-out digits: \d\d\.\d%\nexported {models}/0000000{version}\n", output
        )
    return models


@pytest.mark.parametrize("version", ["00000001", "00000002"])
def test_the_commands_of_the_page_measure_an_error_rate_below_ten_percent(
    models: Path, version: str
):
    serve = next(each for each in commands() if f"models/mnist/{version}" in each)
    ask = next(each for each in commands() if "mnist_client.py" in each)
    with serving(arguments_of(serve, models)) as address:
        output = run([*arguments_of(ask, models, address), f"--deadline_seconds={WAIT_SECONDS}"])
    assert output.splitlines()[0] == "." * 500
    assert error_rate(output) < 10


def test_the_client_tells_of_calls_that_are_not_answered_by_their_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never says a word
        asked = f"--server=127.0.0.1:{silent.getsockname()[1]}"
        done = asked_client(asked, "--num_tests=1", "--deadline_seconds=0.01")
    assert done.returncode == 1
    assert "DEADLINE_EXCEEDED" in done.stderr
    assert done.stderr.endswith("1 of 1 calls failed\n")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_the_client_refuses_deadlines_that_are_not_positive(seconds: str):
    done = asked_client("--server=127.0.0.1:9", f"--deadline_seconds={seconds}")
    assert done.returncode == 2
    assert f"--deadline_seconds must be positive, not {seconds}" in done.stderr


def asked_client(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE / "mnist_client.py"), *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
        env=ENVIRONMENT,
    )


def test_versions_are_what_the_page_says(models: Path):
    assert (models / "00000001" / "export.meta").is_file()
    assert (models / "00000001" / "export-00000-of-00001").is_file()
    assert (models / "00000002" / "saved_model.pb").is_file()


@pytest.mark.parametrize("flag", ["--training_iteration=0", "--export_version=-1"])
def test_the_export_refuses_numbers_that_are_not_positive(tmp_path: Path, flag: str):
    program = [sys.executable, str(EXAMPLE / "mnist_export.py"), flag, str(tmp_path)]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT
    )
    assert done.returncode == 2
    assert "must be positive" in done.stderr


@pytest.fixture(scope="module")
def mnist_inference() -> Iterator[ModuleType]:
    """The server's module, in this process."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        import mnist_inference  # noqa: PLC0415 - its folder is no package of the tests

        yield mnist_inference
    finally:
        sys.path.remove(str(EXAMPLE))


@contextmanager
def classify_of(mnist_inference: ModuleType, version: Path, **queue: int) -> Iterator[Any]:
    """A stub for a server in this process."""
    with (
        mnist_inference.serving(version, "127.0.0.1:0", QueueOptions(**queue)) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield channel.unary_unary(
            "/tensorflow.serving.MnistService/Classify",
            MnistRequest.SerializeToString,
            MnistResponse.FromString,
        )


def test_images_of_several_calls_share_a_batch(mnist_inference: ModuleType, models: Path):
    """One image alone would wait for an hour, and its caller for five minutes."""
    patient = {"max_batch_size": 2, "batch_timeout_micros": 3_600_000_000}
    image = MnistRequest(image_data=[0.0] * 784)
    with (
        classify_of(mnist_inference, models / "00000001", **patient) as classify,
        ThreadPoolExecutor(2) as callers,
    ):
        calls = [callers.submit(classify, image, timeout=WAIT_SECONDS) for _ in range(2)]
        for call in calls:
            assert sum(call.result().value) == pytest.approx(1)
            assert len(call.result().value) == 10


def refusal(classify: Any, pixels: int, timeout: float = WAIT_SECONDS) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        classify(MnistRequest(image_data=[0.0] * pixels), timeout=timeout)
    return raised.value.code().name, raised.value.details()


@pytest.mark.parametrize("pixels", [0, 783, 1568])
def test_anything_but_one_image_is_refused(mnist_inference: ModuleType, models: Path, pixels: int):
    with classify_of(mnist_inference, models / "00000001") as classify:
        assert refusal(classify, pixels) == (
            "INVALID_ARGUMENT",
            f"expected image_data of size 784, got {pixels}",
        )


def export_of_another_shape(directory: Path, *, gives: str) -> Path:
    """``gives``: what its signature is made of, "scores" or "classes" of a classification, or a
    "regression".
    """
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 784])
        y = x * v1.get_variable("a", initializer=0.5, use_resource=False)
        session.run(v1.global_variables_initializer())
        signature = {
            "scores": partial(classification_signature, scores_tensor=y),
            "classes": partial(classification_signature, classes_tensor=tf.as_string(y)),
            "regression": partial(regression_signature, output_tensor=y),
        }[gives](x)
        exporter = Exporter(v1.train.Saver())
        exporter.init(default_graph_signature=signature)
        return exporter.export(directory, 1, session)


def test_scores_of_another_shape_are_the_servers_fault(mnist_inference: ModuleType, tmp_path: Path):
    version = export_of_another_shape(tmp_path, gives="scores")
    with classify_of(mnist_inference, version) as classify:
        code, text = refusal(classify, 784)
    assert (code, text) == ("INTERNAL", "expected scores of shape [1, 10], got [1, 784]")


@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        ("regression", "the export has no signature for classification"),
        ("classes", "the export's signature for classification has no scores"),
    ],
)
def test_an_export_that_does_not_score_is_not_served(
    mnist_inference: ModuleType, tmp_path: Path, gives: str, reason: str
):
    version = export_of_another_shape(tmp_path, gives=gives)
    with (
        pytest.raises(FailedPrecondition, match=f": {reason}$"),
        classify_of(mnist_inference, version),
    ):
        pass
