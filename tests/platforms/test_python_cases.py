"""Python classes are served, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from platform_tests import PlatformCase, PlatformTests, served
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from waiting import WAIT_SECONDS, await_

from serving.loaders.python_options import PythonOptions
from serving.testing import running_server

__all__ = ["served"]

ALLOWED = "--allow_python_models"
NUMBERS = {"x": np.array([[1, 2, 3], [4, 5, 6]], np.float32), "scale": np.array([2, 3], np.int64)}
WORDS = {"words": np.array([[b"a", b"bb"], [b"", "ü".encode()]], np.object_)}
# What is declared stands last, so that no beginning of the file is a whole model.
COMPUTES = """
import numpy as np

class Model:
    def predict(self, inputs):
        scaled = inputs["x"] * inputs["scale"][:, None].astype(np.float32)
        return {"scaled": scaled, "sums": scaled.sum(axis=1), "odd": inputs["scale"] % 2 == 1}

    inputs = {
        "x": {"dtype": "float", "shape": [None, 3]},
        "scale": {"dtype": "int64", "shape": [None]},
    }
    outputs = {
        "scaled": {"dtype": "float", "shape": [None, 3]},
        "sums": {"dtype": "float", "shape": [None]},
        "odd": {"dtype": "bool", "shape": [None]},
    }
"""
JOINS = """
class Model:
    def predict(self, inputs):
        return {"joined": [b"+".join(row) for row in inputs["words"]]}

    inputs = {"words": {"dtype": "string", "shape": [None, 2]}}
    outputs = {"joined": {"dtype": "string", "shape": [None]}}
"""
ANSWERS_PIDS = """
import os
import numpy as np

class Model:
    inputs = {"x": {"dtype": "float", "shape": [None]}}
    outputs = {"pid": {"dtype": "int64", "shape": [None]}}

    def predict(self, inputs):
        if (inputs["x"] < 0).any():
            os._exit(1)
        if (inputs["x"] == 5).any():
            return {"pid": np.array([os.getpid()])}
        return {"pid": np.full(inputs["x"].shape, os.getpid())}
"""


def write_computing(directory: Path) -> Mapping[str, np.ndarray]:
    (directory / "model.py").write_text(COMPUTES)
    scaled = NUMBERS["x"] * NUMBERS["scale"][:, None].astype(np.float32)
    return {"scaled": scaled, "sums": scaled.sum(axis=1), "odd": np.array([False, True])}


def write_joining(directory: Path) -> Mapping[str, np.ndarray]:
    (directory / "model.py").write_text(JOINS)
    return {"joined": np.array([b"a+bb", "+ü".encode()], np.object_)}


def case(name: str, write: object, inputs: Mapping[str, np.ndarray]) -> PlatformCase:
    return PlatformCase(
        name, "python", "model.py", write, inputs, flags=(ALLOWED,), options=PythonOptions(True)
    )


CASES = [case("numbers", write_computing, NUMBERS), case("words", write_joining, WORDS)]


class TestPythonClasses(PlatformTests):
    """Several inputs and outputs, numbers and strings."""


class Client:
    """Asks the models of a server for the processes that they are in."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def pids(self, model: str, *values: float) -> list[int]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(list(values), tf.float32))
        answer = self._stub.Predict(request, timeout=WAIT_SECONDS).outputs["pid"]
        return tf.make_ndarray(answer).tolist()

    def refusal(self, model: str, *values: float) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as raised:
            self.pids(model, *values)
        return raised.value.code().name, raised.value.details()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a server with the models a and b, in two processes each, and batches."""
    folder = tmp_path_factory.mktemp("models")
    for model in ("a", "b"):
        (folder / model / "1").mkdir(parents=True)
        (folder / model / "1" / "model.py").write_text(ANSWERS_PIDS)
    config = folder / "models.config"
    configs = "".join(f'config {{ name: "{m}" base_path: "{folder}/{m}" }}' for m in "ab")
    config.write_text(f"model_config_list {{ {configs} }}")
    flags = (
        f"--model_config_file={config}",
        "--instances_per_model=2",
        "--enable_batching",
        "--file_system_poll_wait_seconds=0",
        ALLOWED,
    )
    with (
        running_server(*flags) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        yield Client(channel)


def pids_of(client: Client, model: str) -> set[int]:
    """The processes of a model, once both have answered."""
    found: set[int] = set()

    def both() -> bool:
        with ThreadPoolExecutor(4) as callers:
            for pids in callers.map(lambda x: client.pids(model, x), range(1, 5)):
                found.update(pids)
        return len(found) == 2

    await_(both, lambda: f"two processes, not {found}")
    return found


def test_each_instance_has_its_own_process(client: Client):
    a, b = pids_of(client, "a"), pids_of(client, "b")
    assert len(a | b | {os.getpid()}) == 5


def test_a_model_that_crashes_fails_its_own_requests_and_nobody_elses(client: Client):
    b = pids_of(client, "b")
    with ThreadPoolExecutor(2) as callers:
        crashes = [callers.submit(client.refusal, "a", -1.0) for _ in range(2)]
        others = [client.pids("b", 1.0)[0] for _ in range(20)]
    for crash in crashes:
        code, text = crash.result()
        assert code == "UNAVAILABLE"
        assert text.startswith("the process of {name: a version: 1} ended with exit status 1")
    assert set(others) <= b

    def served() -> bool:
        try:
            return bool(client.pids("a", 1.0))
        except grpc.RpcError:
            return False

    await_(served, lambda: "answers of a new process")


def test_an_answer_with_fewer_rows_than_the_batch_is_an_error(client: Client):
    code, text = client.refusal("b", 5.0, 6.0)
    assert (code, text.split(" does not")[0]) == (
        "FAILED_PRECONDITION",
        "Batched output tensor's 0th dimension",
    )


def test_a_version_that_is_taken_away_takes_its_processes_along(tmp_path: Path):
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(ANSWERS_PIDS)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path / "m"}" }} }}'
    )
    with (
        running_server(f"--model_config_file={config}", ALLOWED) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        (pid,) = Client(channel).pids("m", 1.0)
        os.kill(pid, 0)
        shutil.copytree(version, tmp_path / "m" / "written")
        (tmp_path / "m" / "written").rename(tmp_path / "m" / "2")

        def replaced() -> bool:
            return Client(channel).pids("m", 1.0) != [pid]

        await_(replaced, lambda: "another version's process")

        def gone() -> bool:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False

        await_(gone, lambda: "the end of the process")
        (second,) = Client(channel).pids("m", 1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(second, signal.SIG_DFL)
