"""SessionRun: any nodes of a model's graph, over real connections to a whole server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from exported_models import _save, _signature, half_plus_two
from odd_models import gated
from stock_clients import WAIT_SECONDS, publish, spec, tensor
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.config_pb2 import RunOptions
from tensorflow.core.protobuf.named_tensor_pb2 import NamedTensorProto
from tensorflow_serving.apis import session_service_pb2 as session

from serving.testing import running_server

MODELS = {"half": "tensorflow", "counter": "tensorflow", "gated": "tensorflow", "table": "hashmap"}


def counter(directory: Path) -> None:
    """``count`` [] is a variable, to which the operation ``increment`` adds 1."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as writing:
        count = tf.Variable(0, name="variable")
        tf.group(count.assign_add(1), name="increment")
        writing.run(count.initializer)
        signature = _signature({}, {"count": tf.identity(count, name="count")})
        _save(directory, writing, {"serving_default": signature})


def table(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "table.csv").write_text("some,value\n")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("session")
    for exporter, name in ((half_plus_two, "half"), (counter, "counter"), (gated, "gated")):
        publish(exporter, place / name, 3)
    publish(table, place / "table", 3)
    listed = [
        {"name": name, "base_path": str(place / name), "model_platform": platform}
        for name, platform in MODELS.items()
    ]
    path = place / "models.json"
    path.write_text(json.dumps({"model_config_list": listed}))
    return path


@pytest.fixture(scope="module")
def port(config: Path, grpc_engine: str) -> Iterator[int]:
    flags = (f"--model_config_file={config}", "--enable_session_service", "--enable_batching")
    with running_server(grpc_engine, *flags) as server:
        assert server.grpc_port
        yield server.grpc_port


class Client:
    def __init__(self, channel: grpc.Channel) -> None:
        self._session_run = channel.unary_unary(
            "/tensorflow.serving.SessionService/SessionRun",
            session.SessionRunRequest.SerializeToString,
            session.SessionRunResponse.FromString,
        )

    def run(
        self, model: str, timeout: float = WAIT_SECONDS, **request: object
    ) -> session.SessionRunResponse:
        request.setdefault("model_spec", spec(model))
        message = session.SessionRunRequest(**request)
        return self._session_run(message, timeout=timeout)

    def error(self, model: str, **request: object) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.run(model, **request)
        return caught.value.code(), caught.value.details()


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[Client]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)


def feed(**tensors: object) -> list[NamedTensorProto]:
    return [
        NamedTensorProto(name=name.replace("__", ":"), tensor=tensor(value))
        for name, value in tensors.items()
    ]


def values(response: session.SessionRunResponse) -> dict[str, np.ndarray]:
    return {named.name: tf.make_ndarray(named.tensor) for named in response.tensor}


def test_tensors_are_fed_and_fetched_by_their_names_in_the_graph(client: Client) -> None:
    response = client.run("half", feed=feed(x__0=[[2.0]]), fetch=["y2:0", "y"])

    assert [named.name for named in response.tensor] == ["y2:0", "y"]
    assert {name: value.item() for name, value in values(response).items()} == {"y2:0": 4, "y": 3}
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", 3)


def test_names_may_be_the_aliases_of_a_signature(client: Client) -> None:
    response = client.run("half", feed=feed(x=[[2.0]]), fetch=["y"], tensor_name_is_alias=True)

    assert values(response)["y"].item() == 3


def test_a_target_is_run_and_fetches_nothing(client: Client) -> None:
    before = values(client.run("counter", fetch=["count:0"]))["count:0"].item()

    assert not client.run("counter", target=["increment"]).tensor

    assert values(client.run("counter", fetch=["count:0"]))["count:0"].item() == before + 1


def test_a_trace_comes_with_the_metadata_where_it_is_asked_for(client: Client) -> None:
    options = RunOptions(trace_level=RunOptions.FULL_TRACE)
    traced = client.run("half", feed=feed(x__0=[[2.0]]), fetch=["y:0"], options=options)
    plain = client.run("half", feed=feed(x__0=[[2.0]]), fetch=["y:0"])

    devices = traced.metadata.step_stats.dev_stats
    nodes = {stat.node_name for device in devices for stat in device.node_stats}
    assert "y" in nodes
    assert not plain.metadata.step_stats.dev_stats


@pytest.mark.parametrize(
    ("options", "timeout"), [(RunOptions(timeout_in_ms=50), WAIT_SECONDS), (RunOptions(), 0.5)]
)
def test_a_run_ends_with_the_time_of_its_options_or_its_call(
    client: Client, tmp_path: Path, options: RunOptions, timeout: float
) -> None:
    code, _ = client.error(
        "gated",
        feed=feed(gate__0=str(tmp_path / "never")),
        fetch=["version:0"],
        options=options,
        timeout=timeout,
    )
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("model", "request_", "expected"),
    [
        ("other", {"fetch": ["y:0"]}, (NOT_FOUND, "Servable not found for request: Latest(other)")),
        (
            "half",
            {"model_spec": spec("half", version=9)},
            (NOT_FOUND, "Servable not found for request: Specific(half, 9)"),
        ),
        ("half", {"model_spec": None}, (INVALID, "Missing ModelSpec")),
        (
            "table",
            {"fetch": ["y:0"]},
            (INVALID, "Servable type doesn't match the asked for type."),
        ),
        (
            "half",
            {"fetch": ["z:0"]},
            (
                INVALID,
                "Tensor z:0, specified in either feed_devices or fetch_devices was not found in "
                "the Graph",
            ),
        ),
        (
            "half",
            {"target": ["z"]},
            (INVALID, "Operation z, specified as a target, was not found in the Graph"),
        ),
        (
            "half",
            {"feed": feed(x__0=[[1]]), "fetch": ["y:0"]},
            (INVALID, "Expects arg[0] to be float but int32 is provided"),
        ),
        (
            "half",
            {"feed": feed(x__0=[[1.0]]) * 2, "fetch": ["y:0"]},
            (INVALID, "SessionRun feeds x:0 more than once"),
        ),
        (
            "half",
            {"feed": feed(x__0=[[1.0]]) + feed(x=[[1.0]]), "fetch": ["y:0"]},
            (INVALID, "SessionRun feeds x:0 more than once"),
        ),
        (
            "half",
            {"feed": feed(x__0=TensorProto(dtype=999))},
            (INVALID, "tensor parsing error: x:0: no tensor type has the number 999"),
        ),
        (
            "half",
            {"fetch": ["z"], "tensor_name_is_alias": True},
            (
                INVALID,
                "output tensor alias not found in signature: z "
                "Outputs expected to be in the set {y}.",
            ),
        ),
        (
            "half",
            {"model_spec": spec("half", "nope"), "fetch": ["y"], "tensor_name_is_alias": True},
            (grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
        ),
        (
            "half",
            {"fetch": ["y:0"], "options": RunOptions(inter_op_thread_pool=1)},
            (INVALID, "SessionRun does not support options.inter_op_thread_pool"),
        ),
    ],
)
def test_what_cannot_be_run_is_refused(
    client: Client, model: str, request_: dict[str, object], expected: tuple[grpc.StatusCode, str]
) -> None:
    assert client.error(model, **request_) == expected


@pytest.mark.parametrize("flag", ["--access_log={}/access.log", "--log_format=json"])
def test_it_runs_also_where_calls_are_observed(config: Path, tmp_path: Path, flag: str) -> None:
    flags = (f"--model_config_file={config}", "--enable_session_service", flag.format(tmp_path))
    with (
        running_server(*flags) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        response = Client(channel).run("half", feed=feed(x__0=[[2.0]]), fetch=["y:0"])
    assert values(response)["y:0"].item() == 3


def test_it_is_not_offered_unless_that_is_asked_for(config: Path) -> None:
    """Its clients may run operations that write files."""
    with (
        running_server(f"--model_config_file={config}") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        code, _ = Client(channel).error("half", fetch=["y:0"])
    assert code is grpc.StatusCode.UNIMPLEMENTED
