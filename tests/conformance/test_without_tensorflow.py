"""Where TensorFlow is not installed: the other platforms, and the same answers to stock clients.

Once in a process that can not import it, and, with ``scripts/test --slow``, once more with the
command that ``pip install '.[onnx]'`` installs into an environment of its own:

    scripts/test --slow tests/conformance/test_without_tensorflow.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import onnx_models as models
import prediction_logs as logs
import pytest
import tflite_models
from program import PROGRAM, RunningProgram, program
from stock_clients import (
    WAIT_SECONDS,
    Client,
    classify_request,
    client_of,
    example,
    floats,
    metadata_request,
    spec,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

ROOT = PROGRAM.parent
INSTALL_SECONDS = 900
BLOCKED = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules.update(tensorflow=None, tensorflow_serving=None)
from serving.cli import main
sys.exit(main())
"""
IN_A_PROCESS_WITHOUT = (sys.executable, "-c", BLOCKED)


def installed(folder: Path) -> Sequence[str]:
    """The command, in an environment that has the package and what it needs, and no more."""
    source = folder / "source"  # a build writes beside what it builds
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "bazel-*", "*.egg-info")
    )
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet")
    for what in (("--no-deps", source), ("-r", source / "requirements-without-tensorflow.txt")):
        subprocess.run((*pip, *what), check=True, timeout=INSTALL_SECONDS)
    look = "import importlib.util as u; print(u.find_spec('tensorflow'))"
    assert subprocess.check_output([programs / "python", "-c", look]) == b"None\n"
    return (str(programs / "model_server"),)


@pytest.fixture(
    scope="module",
    params=[
        "in a process without",
        pytest.param(
            "in an environment without",
            marks=[pytest.mark.slow, pytest.mark.timeout(INSTALL_SECONDS + 120)],
        ),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProgram]:
    """Serves ``half``, an ONNX model, ``lite``, one of TensorFlow Lite, ``table``, a lookup table,
    and ``preferred``, TensorFlow Lite's by the platform ``tensorflow``.
    """
    folder = tmp_path_factory.mktemp("without")
    models.half_plus_two(folder / "half" / "1")
    tflite_models.half_plus_two_with_metadata(folder / "lite" / "1")
    tflite_models.half_plus_two(folder / "preferred" / "1")
    (folder / "table" / "1").mkdir(parents=True)
    (folder / "table" / "1" / "table.csv").write_text("one,1\n")
    models_of = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "{platform}" }}\n'
        for name, platform in (
            ("half", "onnx"),
            ("table", "hashmap"),
            ("lite", "tflite"),
            ("preferred", "tensorflow"),
        )
    )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{\n{models_of}}}\n")
    command = IN_A_PROCESS_WITHOUT if request.param == "in a process without" else installed(folder)
    flags = (f"--model_config_file={config}", "--prefer_tflite_model")
    with program(*flags, command=command) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningProgram) -> Iterator[Client]:
    with client_of(server.grpc_port) as made:
        yield made


def test_predict_over_grpc(client: Client):
    outputs = client.predict(spec("half"), x=floats([1], [2], [5]))
    assert outputs["y"].tolist() == [[2.5], [3], [4.5]]
    for lite in ("lite", "preferred"):
        assert client.predict(spec(lite), x=floats([1], [5]))["y"].tolist() == [[2.5], [4.5]]
    found = client.predict(spec("table"), keys=np.array([b"one", b"two"], np.object_))
    assert found["values"].tolist() == [b"1", b""]


def test_predict_over_rest(server: RunningProgram):
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/half:predict"
    with urllib.request.urlopen(url, b'{"instances": [[1.0], [5.0]]}') as answer:
        assert json.load(answer) == {"predictions": [[2.5], [4.5]]}


def test_other_calls_are_understood(server: RunningProgram, client: Client):
    client.await_states({1: ("AVAILABLE", "OK")}, "half")
    response = client.call("GetModelMetadata", metadata_request(spec("half"), "signature_def"))
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == 1
    code, text = client.failure("Classify", classify_request(spec("half"), example(x=1.0)))
    assert code == "FAILED_PRECONDITION"
    assert text.startswith("No classification inputs found in SignatureDef: inputs {x}")
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/half/metadata"
    with urllib.request.urlopen(url) as answer:
        document = json.load(answer)["metadata"]["signature_def"]["signature_def"]
    assert document["serving_default"]["outputs"]["y"]["dtype"] == "DT_FLOAT"


def test_profiling_says_what_it_lacks(client: Client):
    profile = client.channel.unary_unary("/tensorflow.ProfilerService/Profile")
    with pytest.raises(grpc.RpcError) as caught:
        profile(b"\x08\x01", timeout=WAIT_SECONDS)  # for a millisecond
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "profiling needs tensorflow, which is not installed"


def test_versions_are_warmed_up(tmp_path: Path):
    models.half_plus_two(tmp_path / "half" / "1")
    path = logs.write_warm_up(tmp_path / "half" / "1", logs.of_predict(x=floats([1.0])))
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "half" base_path: "{tmp_path}/half" '
        'model_platform: "onnx" } }'
    )
    with program(f"--model_config_file={config}", command=IN_A_PROCESS_WITHOUT) as running:
        running.await_log(rf"{path}\. Number of warmup records read: 1\.")


@pytest.mark.parametrize("kind", ["tfrecord", "jsonl"])
def test_calls_are_logged_and_make_a_warm_up_file(kind: str, tmp_path: Path):
    (tmp_path / "table" / "1").mkdir(parents=True)
    (tmp_path / "table" / "1" / "table.csv").write_text("one,1\n")
    config = tmp_path / "models.config"
    config.write_text(f"""model_config_list {{ config {{
      name: "table" base_path: "{tmp_path}/table" model_platform: "hashmap"
      logging_config {{
        log_collector_config {{ type: "{kind}" filename_prefix: "{tmp_path}/log" }}
        sampling_config {{
          per_task_sampling_configs {{ task_index: 1 sampling_rate: 0 }}
          sampling_rate: 1
        }}
      }}
    }} }}""")
    with program(f"--model_config_file={config}", command=IN_A_PROCESS_WITHOUT) as running:
        with client_of(running.grpc_port) as client:
            client.predict(spec("table"), keys=np.array([b"one"], np.object_))
        running.process.terminate()
        assert running.end()[0] == 0
    words = first_words("record", f"--request_log={tmp_path}/log", f"--output={tmp_path}/requests")
    assert words == f"{tmp_path}/requests: 1 requests out of 1 calls\n"


def first_words(*flags: str) -> str:
    """What a process without TensorFlow that does not start writes to standard output."""
    command = [*IN_A_PROCESS_WITHOUT, *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_a_savedmodel_fails_with_what_to_install(tmp_path: Path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    flags = (f"--model_base_path={tmp_path}", "--max_num_load_retries=0", "--port=0")
    words = first_words(*flags, "--grpc_bind_address=127.0.0.1:0")
    assert words.startswith("Failed to start server. Error: UNKNOWN: 1 servable(s)")
    assert (
        "FAILED_PRECONDITION: platform 'tensorflow' needs tensorflow, which is not installed: "
        "pip install '.[tensorflow]' in a checkout of this server"
    ) in words


def test_the_session_service_is_refused_with_what_to_install():
    words = first_words("--model_base_path=/m", "--enable_session_service")
    assert words == (
        "Failed to start server. Error: FAILED_PRECONDITION: enable_session_service needs "
        "tensorflow, which is not installed: "
        "pip install '.[tensorflow]' in a checkout of this server\n"
    )


def test_a_session_configuration_is_refused_with_what_to_install(tmp_path: Path):
    config = tmp_path / "session.config"
    config.touch()
    words = first_words("--model_base_path=/m", f"--tensorflow_session_config_file={config}")
    assert words == (
        "Failed to start server. Error: FAILED_PRECONDITION: tensorflow_session_config_file needs "
        "tensorflow, which is not installed: "
        "pip install '.[tensorflow]' in a checkout of this server\n"
    )
