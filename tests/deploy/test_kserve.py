"""The runtimes are what KServe takes, are a drop-in for its own, and serve what they say."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import exported_models
import jsonschema
import kubernetes_validate
import pytest
import yaml
from exported_models import Exported
from referencing import Registry, Resource

from serving.config.command_line import parse_command_line
from serving.loaders.platform_table import PLATFORMS
from serving.testing import running_server

ROOT = Path(__file__).parents[2]
KSERVE = ROOT / "deploy" / "kserve"
RUNTIMES = sorted(KSERVE.glob("*.yaml"))
EXAMPLES = sorted((KSERVE / "examples").glob("*.yaml"))
SCHEMA = json.loads(Path(__file__).with_name("kserve_0_21.json").read_text())
KINDS = {
    "ClusterServingRuntime": ("serving.kserve.io/v1alpha1", "V1alpha1ClusterServingRuntime"),
    "InferenceService": ("serving.kserve.io/v1beta1", "V1beta1InferenceService"),
}
EXPECTED_OF_KSERVE = [
    "--model_name={{.Name}}",
    "--port=9000",
    "--rest_api_port=8080",
    "--model_base_path=/mnt/models",
    "--rest_api_timeout_in_ms=60000",
]
every_runtime = pytest.mark.parametrize("path", RUNTIMES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load(path.read_text())
    return manifest


def container_of(path: Path) -> dict[str, Any]:
    (container,) = read(path)["spec"]["containers"]
    return container


def runtime_named(name: str) -> Path:
    (path,) = [each for each in RUNTIMES if read(each)["metadata"]["name"] == name]
    return path


def validate(manifest: dict[str, Any]) -> None:
    """By KServe's types, and Kubernetes's strict ones where KServe's have those in them."""
    version, kind = KINDS[manifest["kind"]]
    assert manifest["apiVersion"] == version
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    kubernetes = json.loads((folder / "v1.37.0-local-strict" / "_definitions.json").read_text())
    resources = [Resource.from_contents(each) for each in (SCHEMA, kubernetes)]
    jsonschema.Draft202012Validator(
        {"$ref": f"{SCHEMA['$id']}#/$defs/{kind}"}, registry=resources @ Registry()
    ).validate(manifest)


@pytest.mark.parametrize("path", RUNTIMES + EXAMPLES, ids=lambda path: path.stem)
def test_every_manifest_is_strictly_valid(path: Path) -> None:
    """Strictly: a misspelt field is an error, too."""
    validate(read(path))


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ((), "specs"),
        (("spec",), "protocolVersion"),
        (("spec", "supportedModelFormats", 0), "autoselect"),
        (("spec", "containers", 0), "readynessProbe"),
    ],
)
def test_a_misspelt_field_is_found(where: tuple[str | int, ...], field: str) -> None:
    manifest = read(RUNTIMES[0])
    place: Any = manifest
    for step in where:
        place = place[step]
    place[field] = {}
    with pytest.raises(jsonschema.ValidationError, match=field):
        validate(manifest)


def test_a_runtime_without_containers_is_refused() -> None:
    manifest = read(RUNTIMES[0])
    del manifest["spec"]["containers"]
    with pytest.raises(jsonschema.ValidationError, match="containers"):
        validate(manifest)


def test_that_of_tensorflow_is_started_as_kserve_starts_tensorflow_serving() -> None:
    spec = read(runtime_named("model-server-tensorflow"))["spec"]
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container"
    assert container["command"] == ["/usr/bin/tensorflow_model_server"]
    assert container["args"] == EXPECTED_OF_KSERVE
    assert spec["protocolVersions"] == ["v1", "grpc-v1"]
    formats = {(each["name"], each["version"]) for each in spec["supportedModelFormats"]}
    assert formats == {("tensorflow", "1"), ("tensorflow", "2")}


def test_the_image_has_the_command_of_the_runtimes() -> None:
    link = "ln -s /opt/model_server/bin/tensorflow_model_server /usr/bin/"
    assert link in (ROOT / "Dockerfile").read_text()
    for path in RUNTIMES:
        assert container_of(path)["command"] == ["/usr/bin/tensorflow_model_server"]


@every_runtime
def test_the_server_knows_its_arguments(path: Path) -> None:
    arguments = [each.replace("{{.Name}}", "m") for each in container_of(path)["args"]]
    flags = parse_command_line(arguments)
    assert not flags.unknown
    assert (flags["model_name"], flags["model_base_path"]) == ("m", "/mnt/models")
    assert (flags["port"], flags["rest_api_port"]) == (9000, 8080)
    assert container_of(path)["readinessProbe"]["httpGet"]["port"] == flags["rest_api_port"]


@every_runtime
def test_it_says_the_protocols_that_the_server_speaks(path: Path) -> None:
    assert read(path)["spec"]["protocolVersions"] == ["v1", "grpc-v1"]


def test_the_formats_are_platforms_whose_libraries_the_image_has() -> None:
    pinned = {
        "model-server:latest": (ROOT / "deploy/docker/requirements-cpu.txt").read_text(),
        "model-server:latest-tables": (ROOT / "deploy/docker/requirements-tables.txt").read_text(),
    }
    library = {
        "caffe2": "onnxruntime",
        "catboost": "catboost",
        "cntk": "onnxruntime",
        "keras": "keras",
        "lightgbm": "lightgbm",
        "mxnet": "onnxruntime",
        "onnx": "onnxruntime",
        "sklearn": "skops",
        "spark": "pyarrow",
        "tensorflow": "tensorflow-cpu",
        "tflite": "ai-edge-litert",
        "xgboost": "xgboost-cpu",
    }
    served = [
        (each["name"], container_of(path)["image"])
        for path in RUNTIMES
        for each in read(path)["spec"]["supportedModelFormats"]
    ]
    assert {name for name, _ in served} == library.keys() <= PLATFORMS.keys()
    for name, image in served:
        assert f"\n{library[name]}==" in pinned[image], name


def test_only_that_of_tensorflow_is_chosen_by_itself() -> None:
    """KServe's own servers of other formats take models without a folder for their version."""
    for path in RUNTIMES:
        chosen = {each.get("autoSelect") for each in read(path)["spec"]["supportedModelFormats"]}
        assert chosen == ({True} if path == runtime_named("model-server-tensorflow") else {None})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_asks_a_runtime_for_a_format_and_a_protocol_that_it_has(path: Path) -> None:
    model = read(path)["spec"]["predictor"]["model"]
    runtime = read(runtime_named(model.get("runtime", "model-server-tensorflow")))["spec"]
    names = {each["name"] for each in runtime["supportedModelFormats"]}
    assert model["modelFormat"]["name"] in names
    assert model["protocolVersion"] in runtime["protocolVersions"]


@contextmanager
def served(name: str, base: Path) -> Iterator[str]:
    """The address of REST, with the runtime's arguments as KServe fills them in, but for the
    ports and the path.
    """
    here = {"port": "0", "rest_api_port": "0", "model_base_path": str(base)}
    arguments = []
    for argument in container_of(runtime_named(name))["args"]:
        flag, _, value = argument.removeprefix("--").partition("=")
        arguments.append(f"--{flag}={here.get(flag, value.replace('{{.Name}}', 'm'))}")
    with running_server(*arguments) as server:
        yield f"http://127.0.0.1:{server.rest_port}"


def get(url: str, body: object | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data) as answer:
        return json.load(answer)


def predict(runtime: str, base: Path, instances: list[object]) -> object:
    """What is predicted, once it is ready for the runtime's probe and KServe's v1 protocol."""
    probe = container_of(runtime_named(runtime))["readinessProbe"]["httpGet"]["path"]
    with served(runtime, base) as address:
        urllib.request.urlopen(f"{address}{probe}").close()
        (status,) = get(f"{address}/v1/models/m")["model_version_status"]
        assert status["state"] == "AVAILABLE"
        return get(f"{address}/v1/models/m:predict", {"instances": instances})["predictions"]


def test_a_saved_model_is_served(exported: Exported) -> None:
    base = exported(exported_models.half_plus_two).parent
    assert predict("model-server-tensorflow", base, [1.0, 2.0]) == [2.5, 3.0]


def test_a_network_is_served_whose_format_its_files_tell(tmp_path: Path) -> None:
    onnx_models = pytest.importorskip("onnx_models", reason="onnx is not installed")
    onnx_models.half_plus_two(tmp_path / "1")
    assert predict("model-server-networks", tmp_path, [[1.0], [2.0]]) == [[2.5], [3.0]]


def test_a_model_of_tables_is_served_whose_format_its_files_tell(tmp_path: Path) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="no scikit-learn")
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    halves = linear_model.LinearRegression().fit([[0.0], [2.0]], [2.0, 3.0])
    (tmp_path / "1").mkdir()
    skops.dump(halves, tmp_path / "1" / "model.skops")
    assert predict("model-server-tables", tmp_path, [[1.0], [2.0]]) == pytest.approx([2.5, 3.0])
