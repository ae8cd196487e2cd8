"""``model_server inspect``: what it prints is true of a server, and its commands are answered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import onnx_models
import pytest
from exported_models import half_plus_two
from google.protobuf import json_format
from onnx import TensorProto, helper
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from waiting import WAIT_SECONDS

from serving.cli import main as model_server
from serving.testing import running_server

_CONFIG = """
model_config_list {{ config {{ name: "m" base_path: "{path}" model_platform: "{platform}" }} }}
"""


class Printed(NamedTuple):
    """How the command ended, and what it wrote."""

    status: int
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)


def inspect(*arguments: object) -> Printed:
    output = StringIO()
    with redirect_stdout(output):
        status = model_server(["inspect", *map(str, arguments)])
    return Printed(status, output.getvalue())


def answered_as_printed(folder: Path, base_path: Path, platform: str, *arguments: str) -> Any:
    """The outputs that a server gives to the sample request: by curl, in Python and over gRPC."""
    config = folder / "models.config"
    config.write_text(_CONFIG.format(path=base_path, platform=platform))
    with running_server(f"--model_config_file={config}", "--max_num_load_retries=0") as server:
        ports = (f"--port={server.grpc_port}", f"--rest_api_port={server.rest_port}")
        printed = inspect(base_path, "--json", "--model_name=m", *ports, *arguments)
        assert printed.status == 0, printed.text
        sample = printed.document["sample"]
        assert sample["grpc"]["answered"]
        outputs = _by_grpc(sample)
        if sample["curl"]:
            assert sample["rest"]["answered"]
            curl = subprocess.run(
                ["sh", "-c", sample["curl"]], capture_output=True, check=True, text=True
            )
            assert json.loads(curl.stdout).keys() <= {"predictions", "outputs"}, curl.stdout
        if sample["python"]:
            program = subprocess.run(
                [sys.executable, "-c", sample["python"]],
                capture_output=True,
                check=False,
                text=True,
            )
            assert program.returncode == 0, program.stderr
            assert program.stdout
        return sample, outputs


def _by_grpc(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """What grpcurl does with the body, by way of the same messages."""
    assert sample["grpc_method"] == "/tensorflow.serving.PredictionService/Predict"
    request = json_format.ParseDict(sample["grpc_body"], PredictRequest())
    with grpc.insecure_channel(sample["grpc_address"]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request, timeout=WAIT_SECONDS).outputs


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of an ONNX model with two versions."""
    base_path = tmp_path_factory.mktemp("models") / "half"
    for version in (1, 2):
        onnx_models.half_plus_two(base_path / str(version))
    return base_path


@pytest.fixture(scope="module")
def printed(half: Path) -> Printed:
    """What is printed of it."""
    return inspect(half, "--json")


def test_the_document_tells_what_the_model_is(printed: Printed, half: Path):
    document = printed.document
    assert printed.status == 0
    told = {key: document[key] for key in ("format", "path", "kind", "name", "version", "versions")}
    assert told == {
        "format": 1,
        "path": str(half),
        "kind": "base_path",
        "name": "half",
        "version": 2,
        "versions": [2, 1],
    }
    assert document["platform"] == "onnx"
    assert document["candidates"] == {"onnx": ["model.onnx"]}
    assert document["size_bytes"] == (half / "2" / "model.onnx").stat().st_size
    assert document["devices"][0] == "cpu:0"
    load = document["load"]
    assert (load["attempted"], load["loads"], load["error"]) == (True, True, None)
    assert all(load[key] > 0 for key in ("seconds", "import_seconds", "estimated_memory_bytes"))
    assert load["memory_bytes"] >= 0


def test_the_document_tells_signatures(printed: Printed):
    (signature,) = printed.document["signatures"]
    assert signature["name"] == "serving_default"
    assert signature["inputs"] == [
        {"alias": "x", "dtype": "DT_FLOAT", "shape": [None, 1], "tensor": "x"}
    ]
    assert signature["batching"] == {"possible": True, "reason": ""}


def test_the_documentation_has_a_row_for_every_field(printed: Printed):
    page = (Path(__file__).parents[2] / "docs" / "inspect.md").read_text()
    document = printed.document
    signature = document["signatures"][0]
    for part in (document, document["load"], document["sample"], signature, signature["inputs"][0]):
        for field in part:
            assert f"`{field}`" in page, field


def test_the_text_tells_the_same(half: Path):
    status, text = inspect(half)
    assert status == 0
    for line in (
        f"{half}: a model's versions",
        "  platform    onnx, told from model.onnx",
        "  version     2, the newest; also there: 1",
        "signature serving_default (tensorflow/serving/predict)",
        "  input   x  float  [?, 1]  x",
        "  batching    yes",
        "    curl -d '{\"instances\": [[0.5]]}' http://localhost:8501/v1/models/half:predict",
    ):
        assert line in text.splitlines(), line
    assert "loads       yes, in " in text


def test_the_sample_of_a_saved_model_is_answered(exported, tmp_path: Path):
    base_path = exported(half_plus_two).parent
    sample, outputs = answered_as_printed(tmp_path, base_path, "tensorflow")
    assert sample["signature_name"] == "serving_default"
    assert list(outputs["y"].float_val) == [2.25]


def test_a_long_request_is_made_by_the_commands(tmp_path: Path):
    """Nobody pastes 150,000 numbers, and no shell takes them."""
    shape = ("batch", 224, 224, 3)
    onnx_models.save(
        tmp_path / "m" / "1",
        [helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)],
        [onnx_models.value("image", shape=shape)],
        [onnx_models.value("mean", shape=())],
    )
    sample, outputs = answered_as_printed(tmp_path, tmp_path / "m", "onnx")
    assert sample["rest_body"] is None
    assert len(sample["curl"]) < 500
    assert len(sample["grpcurl"]) < 500
    assert list(outputs["mean"].float_val) == [0.5]


@pytest.mark.parametrize(
    ("dtype", "field"),
    [
        (TensorProto.INT64, "int64_val"),
        (TensorProto.BOOL, "bool_val"),
        (TensorProto.STRING, "string_val"),
        (TensorProto.UINT8, "int_val"),
        (TensorProto.FLOAT16, "half_val"),
    ],
)
def test_samples_fit_types(tmp_path: Path, dtype: int, field: str):
    onnx_models.identity(tmp_path / "m" / "1", dtype)
    sample, outputs = answered_as_printed(tmp_path, tmp_path / "m", "onnx")
    assert len(getattr(outputs["y"], field)) == 1
    assert bool(sample["curl"]) == (dtype != TensorProto.FLOAT16)
    assert sample["python"]


def test_values_that_a_model_refuses_are_followed_by_others(tmp_path: Path):
    """A table of one row is looked up at 0 only."""
    onnx_models.save(
        tmp_path / "1",
        [helper.make_node("Gather", ["table", "row"], ["y"])],
        [onnx_models.value("row", TensorProto.INT64)],
        [onnx_models.value("y")],
        [onnx_models.constant("table", [7.0])],
    )
    sample = inspect(tmp_path / "1", "--json").document["sample"]
    assert sample["rest_body"] == {"instances": [0]}
    assert sample["rest"]["answered"]


def test_a_model_of_sixty_inputs_is_a_table(tmp_path: Path):
    names = [f"feature_{number}" for number in range(60)]
    onnx_models.save(
        tmp_path / "1",
        [helper.make_node("Sum", names, ["total"])],
        [onnx_models.value(name) for name in names],
        [onnx_models.value("total")],
    )
    status, text = inspect(tmp_path / "1")
    assert status == 0
    rows = [line for line in text.splitlines() if line.startswith("  input ")]
    assert len(rows) == 60
    assert len({line.index("float") for line in rows}) == 1
    assert "gRPC        answers" in text


def test_what_can_not_be_batched_says_why(tmp_path: Path):
    onnx_models.save(
        tmp_path / "1",
        [helper.make_node("Identity", ["x"], ["y"])],
        [onnx_models.value("x", shape=(3,))],
        [onnx_models.value("y", shape=(3,))],
    )
    (signature,) = inspect(tmp_path / "1", "--json").document["signatures"]
    reason = "the first dimension of input 'x' is 3, not of any size"
    assert signature["batching"] == {"possible": False, "reason": reason}


def test_a_model_that_does_not_load_ends_with_1_and_the_reason(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    status, text = inspect(tmp_path)
    assert status == 1
    assert "  loads       no: the ONNX model can not be loaded: " in text
    assert inspect(tmp_path, "--json").document["load"]["error"]["code"] == "INVALID_ARGUMENT"


def test_a_crash_is_a_model_that_does_not_load(tmp_path: Path, monkeypatch):
    (tmp_path / "falling.py").write_text(
        "import ctypes\nclass Falling:\n    def estimate(self, path): ctypes.string_at(0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = tmp_path / "platforms.json"
    config.write_text(json.dumps({"platforms": {"falling": {"class": "falling:Falling"}}}))
    arguments = (f"--platform_config_file={config}", "--platform=falling")
    status, text = inspect(tmp_path, *arguments)
    assert status == 1
    assert "  loads       no: its process was ended by SIGSEGV" in text


def test_no_path_a_wrong_one_and_wrong_arguments_end_with_2(tmp_path: Path, capsys):
    assert inspect(tmp_path / "absent").status == 2
    assert "there is no " in capsys.readouterr().err
    (tmp_path / "notes.md").write_text("")
    status, text = inspect(tmp_path)
    assert status == 2
    assert "no files that a platform is known by" in " ".join(text.split())
    for wrong in ((), ("--no-such-argument", "."), ("--port=many", ".")):
        with pytest.raises(SystemExit) as ended:
            inspect(*wrong)
        assert ended.value.code == 2


def test_a_signature_that_is_not_there_ends_with_2_and_those_that_are(half: Path, capsys):
    assert inspect(half, "--signature_name=other").status == 2
    assert "no signature 'other'; there are: serving_default" in capsys.readouterr().err


def test_files_of_two_platforms_are_candidates_until_one_is_chosen(tmp_path: Path):
    onnx_models.half_plus_two(tmp_path)
    (tmp_path / "table.csv").write_text("key,value\n")
    status, text = inspect(tmp_path, "--json")
    assert status == 2
    assert json.loads(text)["candidates"] == {"hashmap": ["table.csv"], "onnx": ["model.onnx"]}
    assert inspect(tmp_path, "--platform=onnx", "--no-load").status == 0


def test_without_a_load_a_saved_model_tells_its_signatures(exported):
    document = inspect(exported(half_plus_two), "--no-load", "--json").document
    assert document["load"]["attempted"] is False
    assert document["load"]["loads"] is None
    assert document["signatures_from"] == "files"
    assert "serving_default" in [signature["name"] for signature in document["signatures"]]
    (graph,) = document["graphs"]
    assert graph["tags"] == ["serve"]
    assert "AddV2" in graph["operations"]


def test_flags_of_a_server_count_for_the_load(tmp_path: Path):
    pytest.importorskip("skops", reason="skops is not installed")
    (tmp_path / "model.pkl").write_bytes(b"no pickle")
    refused = inspect(tmp_path, "--json").document["load"]["error"]
    allowed = inspect(tmp_path, "--json", "--allow_pickle_models").document["load"]["error"]
    assert refused["code"] == "FAILED_PRECONDITION"
    assert allowed["code"] != "FAILED_PRECONDITION"


def test_tensorflow_is_imported_for_its_own_models_only(half: Path):
    """In a process of its own, as this one has it."""
    wanted = {"platform": "onnx", "path": str(half / "2"), "name": "m", "version": 1, "flags": []}
    wanted |= {"loads": True, "signature_name": "", "host": "h", "grpc_port": 1, "rest_port": 2}
    program = (
        "import sys; from serving.inspection.loading import inspect\n"
        f"*_, last = inspect({wanted!r})\n"
        "assert last['sample']['rest']['answered'], last\n"
        "assert not [name for name in sys.modules if name.startswith('tensorflow.')]\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_help_imports_nothing_that_takes_time():
    program = (
        "import sys; from serving.cli import main\n"
        "try: main(['inspect', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'numpy', 'grpc', 'google.protobuf'} & sys.modules.keys()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("usage: model_server inspect")
