"""What the four clients do is the same, against a whole server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocking import Blocking
from exported_models import Exported, half_plus_two, strings, version_number
from model_server_client import (
    All,
    AsyncClient,
    Client,
    Code,
    Latest,
    ModelConfig,
    Retries,
    ServerError,
    Signature,
    State,
    TensorInfo,
)
from model_server_client.async_rest_client import AsyncRestClient
from model_server_client.rest_client import RestClient
from waiting import WAIT_SECONDS, await_

from serving.model_server import ModelServer
from serving.testing import running_server

CONFIG = """model_config_list {{
  config {{
    name: "half" base_path: "{half}" model_platform: "tensorflow"
  }}
  config {{
    name: "versions" base_path: "{versions}" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }}
  }}
  config {{ name: "strings" base_path: "{strings}" model_platform: "tensorflow" }}
}}"""


@pytest.fixture(scope="module")
def bases(exported: Exported) -> dict[str, Path]:
    exported(version_number, 2)
    return {
        "half": exported(half_plus_two).parent,
        "versions": exported(version_number).parent,
        "strings": exported(strings).parent,
    }


@pytest.fixture(scope="module")
def server(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(CONFIG.format(**bases))
    labels = "--allow_version_labels_for_unavailable_models=true"
    with running_server(f"--model_config_file={config}", labels) as running:
        await_(lambda: running_versions(running) == {1, 2}, lambda: "both versions")
        yield running


def running_versions(server: ModelServer) -> set[int]:
    with make_client("grpc", server) as client:
        statuses = client.status("versions")
    return {status.version for status in statuses if status.state is State.AVAILABLE}


def newest_answers(client: Client, version: int) -> bool:
    return any(
        status.version == version and status.state is State.AVAILABLE
        for status in client.status("m")
    )


def is_gone(client: Client, model: str) -> bool:
    """A reload does not wait until what is no longer configured has been unloaded."""
    try:
        client.predict(model, {"x": np.zeros(1, np.float32)})
    except ServerError as error:
        return error.code is Code.NOT_FOUND
    return False


def make_client(kind: str, server: ModelServer, **options: Any) -> Any:
    options.setdefault("timeout", WAIT_SECONDS)
    grpc_target, url = (
        f"127.0.0.1:{server.grpc_port}",
        f"http://127.0.0.1:{server.rest_port}",
    )
    match kind:
        case "grpc":
            return Client(grpc_target, **options)
        case "grpc-async":
            return Blocking(lambda: AsyncClient(grpc_target, **options))
        case "rest":
            return RestClient(url, **options)
    return Blocking(lambda: AsyncRestClient(url, **options))


@pytest.fixture(params=["grpc", "grpc-async", "rest", "rest-async"])
def client(request: pytest.FixtureRequest, server: ModelServer) -> Iterator[Any]:
    with make_client(request.param, server) as made:
        yield made


@pytest.fixture(params=["grpc", "grpc-async"])
def grpc_client(request: pytest.FixtureRequest, server: ModelServer) -> Iterator[Any]:
    with make_client(request.param, server) as made:
        yield made


def test_arrays_go_in_and_come_out_with_the_types_of_the_signature(client: Any) -> None:
    outputs = client.predict("half", {"x": np.array([1, 2.5], np.float32)})
    assert list(outputs) == ["y"]
    assert outputs["y"].dtype == np.float32
    np.testing.assert_array_equal(outputs["y"], [2.5, 3.25])


def test_a_list_is_good_for_an_array(client: Any) -> None:
    answer = client.predict("strings", {"text": ["ä", b"\xff\0"]})
    assert answer["shout"].tolist() == ["ä!".encode(), b"\xff\0!"]
    assert answer["length"].dtype == np.int32
    assert answer["length"].tolist() == [2, 2]
    assert len(answer) == 2


def test_numbers_that_json_has_no_word_for_arrive(client: Any) -> None:
    x = np.array([np.nan, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(client.predict("half", {"x": x})["y"], x)


@pytest.mark.parametrize(
    ("chosen", "answering"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1)]
)
def test_a_version_is_chosen_by_number_or_label(
    client: Any, chosen: dict[str, Any], answering: int
) -> None:
    x = np.zeros(1, np.float32)
    assert client.predict("versions", {"x": x}, **chosen)["version"].tolist() == [answering]


def test_a_version_and_a_label_at_once_are_a_value_error(client: Any) -> None:
    with pytest.raises(ValueError, match="version 1 and for label 'stable'"):
        client.predict("versions", {"x": [0.0]}, version=1, label="stable")


def test_what_the_server_refuses_has_its_code_and_words(client: Any) -> None:
    with pytest.raises(ServerError) as caught:
        client.predict("nobody", {"x": [1.0]})
    assert caught.value.code is Code.NOT_FOUND
    assert "nobody" in caught.value.message
    with pytest.raises(ServerError, match="x") as caught:
        client.predict("half", {"z": np.zeros(1, np.float32)})
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_signature_is_chosen_by_name(client: Any) -> None:
    with pytest.raises(ServerError, match="no_such_signature"):
        client.predict("half", {"x": np.zeros(1, np.float32)}, signature="no_such_signature")
    x = np.ones(1, np.float32)
    assert client.predict("half", {"x": x}, signature="serving_default")["y"].tolist() == [2.5]


def test_elements_that_cannot_travel_are_a_type_error_of_that_input(client: Any) -> None:
    with pytest.raises(TypeError, match="'x'"):
        client.predict("half", {"x": np.array(["2026-01-01"], "datetime64[D]")})


def test_the_status_of_every_version_is_told(client: Any) -> None:
    statuses = {status.version: status for status in client.status("versions")}
    assert set(statuses) == {1, 2}
    assert all(status.state is State.AVAILABLE for status in statuses.values())
    (only,) = client.status("versions", version=1)
    assert (only.version, only.code, only.message) == (1, Code.OK, "")
    with pytest.raises(ServerError) as caught:
        client.status("nobody")
    assert caught.value.code is Code.NOT_FOUND


def test_signatures_have_types_and_shapes(client: Any) -> None:
    signatures = client.signatures("strings", version=1)
    assert signatures["serving_default"] == Signature(
        inputs={"text": TensorInfo(np.dtype(object), (None,))},
        outputs={
            "shout": TensorInfo(np.dtype(object), (None,)),
            "length": TensorInfo(np.dtype(np.int32), (None,)),
        },
        method="tensorflow/serving/predict",
    )


def test_a_deadline_that_has_passed_ends_a_call(client: Any) -> None:
    with pytest.raises(ServerError) as caught:
        client.predict("half", {"x": np.zeros(1, np.float32)}, timeout=1e-6)
    assert caught.value.code is Code.DEADLINE_EXCEEDED


def test_only_the_outputs_asked_for_are_computed(grpc_client: Any) -> None:
    answer = grpc_client.predict("strings", {"text": ["abc"]}, outputs=["length"])
    assert {name: array.tolist() for name, array in answer.items()} == {"length": [3]}


def test_the_version_that_answered_is_told(grpc_client: Any) -> None:
    answer = grpc_client.predict("versions", {"x": np.zeros(1, np.float32)}, label="stable")
    assert (answer.model.name, answer.model.version) == ("versions", 1)
    assert answer.model.signature == "serving_default"


def test_models_are_reloaded(bases: dict[str, Path], tmp_path: Path) -> None:
    """From dataclasses with policies and labels, and from the text of a configuration."""
    flags = (f"--model_base_path={bases['half']}", "--model_name=half")
    with running_server(*flags) as server, make_client("grpc", server) as client:
        versions = str(bases["versions"])
        x = np.zeros(1, np.float32)
        client.reload([ModelConfig("v", versions, versions=All(), labels={})])
        await_(lambda: [status.state for status in client.status("v")] == [State.AVAILABLE] * 2)
        client.reload([ModelConfig("v", versions, versions=All(), labels={"old": 1})])
        assert client.predict("v", {"x": x}, label="old")["version"].tolist() == [1]
        await_(lambda: is_gone(client, "half"), lambda: "half to be unloaded")
        client.reload([ModelConfig("one", versions, versions=(1,)), ModelConfig("new", versions)])
        assert client.predict("one", {"x": x})["version"].tolist() == [1]
        assert client.predict("new", {"x": x})["version"].tolist() == [2]
        assert ModelConfig("new", versions).versions == Latest(1)
        with pytest.raises(ServerError, match="relative/path") as caught:
            client.reload([ModelConfig("bad", "relative/path")])
        assert caught.value.code is Code.INVALID_ARGUMENT
        client.reload(
            f'model_config_list {{ config {{ name: "half" base_path: "{bases["half"]}"'
            ' model_platform: "tensorflow" } }'
        )
        assert client.predict("half", {"x": x})["y"].tolist() == [2.0]
        with pytest.raises(ValueError, match="not the text of a ModelServerConfig"):
            client.reload("model_config_list {")
        client.reload([])
        await_(lambda: is_gone(client, "half"), lambda: "half to be unloaded")


@pytest.mark.parametrize("kind", ["rest", "rest-async"])
def test_a_new_signature_is_learned_where_answers_no_longer_fit(
    kind: str, exported: Exported, tmp_path: Path
) -> None:
    base = tmp_path / "m"
    shutil.copytree(exported(half_plus_two), base / "1")
    flags = (f"--model_base_path={base}", "--model_name=m", "--version_settle_seconds=0")
    with running_server(*flags) as server, make_client(kind, server) as client:
        assert client.predict("m", {"x": [1.0]})["y"].tolist() == [2.5]
        with make_client("grpc", server) as control:
            other = exported(strings, 2).parent
            control.reload([ModelConfig("m", str(other))])
            await_(lambda: newest_answers(control, 2), lambda: "version 2")
        assert client.predict("m", {"text": ["a"]})["length"].tolist() == [1]


@pytest.mark.parametrize("kind", ["grpc", "grpc-async", "rest", "rest-async"])
def test_a_server_that_is_not_there_is_unavailable(kind: str) -> None:
    class Nowhere:
        grpc_port = rest_port = 1

    with (
        make_client(kind, Nowhere(), retries=Retries(attempts=2, first_wait=0.01)) as client,  # type: ignore[arg-type] # its ports are all that is asked for
        pytest.raises(ServerError) as caught,
    ):
        client.predict("m", {"x": [1.0]})
    assert caught.value.code is Code.UNAVAILABLE


def test_importing_the_client_imports_no_tensorflow() -> None:
    program = """
import sys
import model_server_client, model_server_client.rest_client, model_server_client.async_rest_client
heavy = {"tensorflow", "tensorflow_serving", "serving"} & set(sys.modules)
assert not heavy, heavy
"""
    client = Path(__file__).parents[2] / "clients" / "python"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=client)


def test_the_client_and_tensorflow_serving_api_live_in_one_process() -> None:
    from model_server_client.generated import tensorflow_serving_pb2  # noqa: PLC0415
    from tensorflow_serving.apis import predict_pb2  # noqa: PLC0415 - after the client, on purpose

    stock = predict_pb2.PredictRequest.DESCRIPTOR.full_name
    assert tensorflow_serving_pb2.PredictRequest.DESCRIPTOR.full_name != stock
