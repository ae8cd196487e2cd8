"""What clients of TensorFlow Serving get when all is well, over real channels to whole servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import exported_models as models
import grpc
import numpy as np
import odd_models
import pytest
import tensorflow as tf
from exported_models import Exported
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from stock_clients import (
    Client,
    classify_request,
    client_of,
    example,
    floats,
    metadata_request,
    multi_inference_request,
    predict_request,
    regress_request,
    reload_request,
    spec,
    status_request,
    write_config,
)
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2
from waiting import WAIT_SECONDS

from serving.testing import running_server

SERVED = {
    "half": models.half_plus_two,
    "half_tf2": models.half_plus_two_tf2,
    "keras": models.keras_model,
    "identities": models.identities,
    "defaults": models.with_defaults,
    "strings": models.strings,
    "matmul": models.matmul,
    "vocabulary": models.vocabulary,
    "main_op": models.main_op,
    "legacy_init_op": models.legacy_init_op,
    "constant": models.constant,
    "odd": odd_models.odd_signatures,
    "gated": odd_models.gated,
}

VALUES = {
    "float32": [1.5, -0.0, float("inf")],
    "float64": [1.5, -1e300],
    "float16": [1.5, -2],
    "bfloat16": [1.5, -2],
    "int8": [-128, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint8": [0, 255],
    "uint16": [0, 2**16 - 1],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "bool": [True, False],
    "string": [b"text", b"", b"\xff\x00"],
    "complex64": [1 + 2j, -3j],
    "complex128": [1 + 2j, -3e300j],
}
"""The ends of the range of every type that clients send."""

TYPED_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
}
"""Where the values of each type travel; the integers not named here are in ``int_val``."""


@pytest.fixture(scope="module")
def bases(exported: Exported) -> dict[str, Path]:
    return {name: exported(exporter).parent for name, exporter in SERVED.items()}


@pytest.fixture(scope="module")
def config(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config") / "models.config", bases)


@pytest.fixture(scope="module")
def port(config: Path, grpc_engine: str) -> Iterator[int]:
    with running_server(f"--model_config_file={config}", grpc_engine) as server:
        yield server.grpc_port


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[Client]:
    with client_of(port) as made:
        yield made


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("socket") / "grpc.socket"


@pytest.fixture(scope="module")
def other_port(bases: dict[str, Path], socket_path: Path, grpc_engine: str) -> Iterator[int]:
    """Of a server that has the flags set which the one of ``port`` leaves alone."""
    flags = (
        "--model_name=identities",
        f"--model_base_path={bases['identities']}",
        "--enable_serialization_as_tensor_content",
        "--enable_grpc_healthcheck_service",
        f"--grpc_socket_path={socket_path}",
        "--grpc_channel_arguments=grpc.max_receive_message_length=100000",
        grpc_engine,
    )
    with running_server(*flags) as server:
        yield server.grpc_port


@pytest.fixture(scope="module")
def content_client(other_port: int) -> Iterator[Client]:
    with client_of(other_port) as made:
        yield made


def in_typed_field(name: str) -> TensorProto:
    values = VALUES[name]
    dtype = tf.as_dtype(name)
    proto = tf.make_tensor_proto([values[0]], dtype, [1])
    if dtype == tf.string:
        return tf.make_tensor_proto(values, dtype)
    proto.Clear()
    proto.dtype = dtype.as_datatype_enum
    proto.tensor_shape.dim.add(size=len(values))
    array = np.array(values, dtype.as_numpy_dtype)
    field = TYPED_FIELDS.get(name, "int_val")
    if field == "half_val":
        array = array.view(np.uint16)
    elif dtype.is_complex:
        array = array.view(array.real.dtype)
    getattr(proto, field).extend(array.tolist())
    return proto


def in_tensor_content(name: str) -> TensorProto:
    dtype = tf.as_dtype(name)
    proto = TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.dim.add(size=len(VALUES[name]))
    if dtype == tf.string:
        lengths = bytes(len(value) for value in VALUES[name])
        proto.tensor_content = lengths + b"".join(VALUES[name])
    else:
        proto.tensor_content = np.array(VALUES[name], dtype.as_numpy_dtype).tobytes()
    return proto


def identity(client: Client, name: str, proto: TensorProto) -> TensorProto:
    request = predict_request(spec("identities", name), **{name: proto})
    return client.call("Predict", request).outputs[name]


@pytest.mark.parametrize("encode", [in_typed_field, in_tensor_content])
@pytest.mark.parametrize("name", VALUES)
def test_every_type_comes_back_in_its_typed_field(
    client: Client, name: str, encode: object
) -> None:
    answer = identity(client, name, encode(name))
    assert answer == in_typed_field(name)
    np.testing.assert_array_equal(tf.make_ndarray(answer), tf.make_ndarray(in_typed_field(name)))


@pytest.mark.parametrize("encode", [in_typed_field, in_tensor_content])
@pytest.mark.parametrize("name", VALUES)
def test_every_type_comes_back_as_tensor_content_where_the_flag_says_so(
    content_client: Client, name: str, encode: object
) -> None:
    answer = identity(content_client, name, encode(name))
    # Strings stay in their field, which every client can read.
    assert answer == (in_typed_field(name) if name == "string" else in_tensor_content(name))


def test_clients_that_read_float_val_find_the_answer(client: Client) -> None:
    request = predict_request(spec("half"), x=[[1.0], [2.0]])
    output = client.call("Predict", request).outputs["y"]
    assert list(output.float_val) == [2.5, 3.0]
    assert [dim.size for dim in output.tensor_shape.dim] == [2, 1]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ((), ["length", "shout"]),
        (("length",), ["length"]),
        (("shout", "length"), ["length", "shout"]),
    ],
)
def test_the_output_filter_chooses(
    client: Client, wanted: tuple[str, ...], names: list[str]
) -> None:
    request = predict_request(spec("strings"), wanted, text=["abc"])
    assert sorted(client.call("Predict", request).outputs) == names


def test_defaults_of_the_signature_supply_what_is_left_out(client: Client) -> None:
    assert client.predict(spec("defaults"), x=[2.0])["y"] == [6.0]
    assert client.predict(spec("defaults"), x=[2.0], scale=5.0)["y"] == [10.0]


@pytest.mark.parametrize("given", ["", "serving_default"])
def test_the_answer_names_version_and_signature(client: Client, given: str) -> None:
    response = client.call("Predict", predict_request(spec("half", given), x=[[1.0]]))
    assert response.model_spec == spec("half", "serving_default", version=1)


@pytest.mark.parametrize(
    ("method", "signature", "request_"),
    [
        ("Predict", "serving_default", predict_request(spec("half", version=1), x=[[1.0]])),
        (
            "Classify",
            "classify_x_to_y",
            classify_request(spec("half", "classify_x_to_y"), example(x=1)),
        ),
        (
            "Regress",
            "regress_x_to_y",
            regress_request(spec("half", "regress_x_to_y"), example(x=1)),
        ),
        ("GetModelMetadata", "", metadata_request(spec("half"), "signature_def")),
        (
            "GetModelMetadata",
            "",
            metadata_request(spec("half", "regress_x_to_y"), "signature_def"),
        ),
    ],
)
def test_every_answer_names_the_version(
    client: Client, method: str, signature: str, request_: object
) -> None:
    answer = client.call(method, request_).model_spec
    assert answer == spec("half", signature, version=1)


def test_an_answer_has_the_version_that_a_label_stood_for(
    exported: Exported, tmp_path: Path
) -> None:
    for version in (1, 2):
        models.version_number(tmp_path / str(version))
    flags = ("--model_name=m", f"--model_base_path={tmp_path}")
    with running_server(*flags) as server, client_of(server.grpc_port) as client:
        both = {"name": "m", "base_path": str(tmp_path), "model_version_policy": {"all": {}}}
        client.call("HandleReloadConfigRequest", reload_request(both))
        client.await_states({2: ("AVAILABLE", "OK"), 1: ("AVAILABLE", "OK")})
        labels = {"version_labels": {"stable": 1, "canary": 2}}
        client.call("HandleReloadConfigRequest", reload_request(both | labels))

        for label, version in labels["version_labels"].items():
            request = predict_request(spec(label=label), x=[0.0])
            response = client.call("Predict", request)
            assert response.model_spec == spec("m", "serving_default", version=version)
            assert list(response.outputs["version"].int64_val) == [version]
        assert client.predict(spec(version=1), x=[0.0])["version"] == [1]
        assert client.predict(spec(), x=[0.0])["version"] == [2]

        status = client.call("GetModelStatus", status_request(spec(label="canary")))
        assert [entry.version for entry in status.model_version_status] == [2, 1]
        status = client.call("GetModelStatus", status_request(spec(version=1)))
        assert [entry.version for entry in status.model_version_status] == [1]


def test_shapes_are_not_compared_with_the_signature(client: Client) -> None:
    assert client.predict(spec("half"), x=[1.0])["y"].tolist() == [2.5]
    assert client.predict(spec("half"), x=1.0)["y"] == 2.5
    assert client.predict(spec("half"), x=[[[1.0, 2.0]]])["y"].tolist() == [[[2.5, 3.0]]]


def test_no_rows_give_no_rows(client: Client) -> None:
    empty = np.zeros((0, 1), np.float32)
    assert client.predict(spec("half"), x=empty)["y"].shape == (0, 1)


def test_a_model_without_inputs_is_asked_with_none(client: Client) -> None:
    assert client.predict(spec("constant"))["c"].tolist() == [1.0, 2.0]


def classes_of(
    response: classification_pb2.ClassificationResponse,
) -> list[list[tuple[str, float]]]:
    return [
        [(entry.label, entry.score) for entry in row.classes]
        for row in response.result.classifications
    ]


@pytest.mark.parametrize(
    ("signature", "row"),
    [
        ("classes_and_scores", [("label", 0.5)] * 2),
        ("classes_only", [("label", 0.0)] * 2),
        ("classify_by_predict_method", [("", 0.5)] * 2),
    ],
)
def test_classify_gives_labels_and_scores(
    client: Client, signature: str, row: list[tuple[str, float]]
) -> None:
    request = classify_request(spec("odd", signature), example(), example(), example())
    assert classes_of(client.call("Classify", request)) == [row] * 3


def test_classify_with_scores_of_each_example(client: Client) -> None:
    request = classify_request(spec("half", "classify_x_to_y"), example(x=1), example(x=2))
    assert classes_of(client.call("Classify", request)) == [[("", 2.5)], [("", 3.0)]]


def test_regress_gives_a_value_for_each_example(client: Client) -> None:
    request = regress_request(spec("half", "regress_x_to_y2"), example(x=1), example(x=2))
    answers = client.call("Regress", request).result.regressions
    assert [answer.value for answer in answers] == [3.5, 4.0]


def test_a_context_completes_every_example(client: Client) -> None:
    request = regress_request(spec("half", "regress_x2_to_y3"))
    both = request.input.example_list_with_context
    both.context.CopyFrom(example(x=0, x2=4))
    both.examples.extend([example(x=1), example(x=2), tf.train.Example()])
    answers = client.call("Regress", request).result.regressions
    assert [answer.value for answer in answers] == [5.0] * 3
    # The context's own x counts for the example that has none.
    request.model_spec.signature_name = "regress_x_to_y"
    answers = client.call("Regress", request).result.regressions
    assert [answer.value for answer in answers] == [2.5, 3.0, 2.0]


def test_multi_inference_answers_in_the_order_of_the_tasks(client: Client) -> None:
    request = multi_inference_request(
        (spec("half", "regress_x_to_y2"), "regress"),
        (spec("half", "classify_x_to_y", version=7), "classify"),
        (spec("half", "regress_x_to_y"), "regress"),
        examples=(example(x=1), example(x=2)),
    )
    second, classified, first = client.call("MultiInference", request).results
    assert [entry.value for entry in second.regression_result.regressions] == [3.5, 4.0]
    assert [entry.value for entry in first.regression_result.regressions] == [2.5, 3.0]
    scores = [row.classes[0].score for row in classified.classification_result.classifications]
    assert scores == [2.5, 3.0]
    assert second.model_spec == spec("half", "regress_x_to_y2", version=1)
    assert classified.model_spec == spec("half", "classify_x_to_y", version=1)


def test_metadata_is_the_signatures_of_the_export(client: Client, bases: dict[str, Path]) -> None:
    for name in ("half", "half_tf2", "defaults"):
        response = client.call("GetModelMetadata", metadata_request(spec(name), "signature_def"))
        assert list(response.metadata) == ["signature_def"]
        found = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(found)
        with tf.Graph().as_default(), models.v1.Session() as session:
            path = str(bases[name] / "1")
            exported_graph = models.v1.saved_model.load(session, ["serve"], path)
        assert dict(found.signature_def) == dict(exported_graph.signature_def)


@pytest.mark.parametrize(
    ("model", "inputs", "alias", "expected"),
    [
        ("half_tf2", {"x": [1.0, 2.0]}, "y", [2.5, 3.0]),
        ("keras", {"features": [[1.0, 2.0]]}, "output_0", [[3.0]]),
        ("vocabulary", {"word": ["c", "a", "unknown"]}, "id", [2, 0, -1]),
        ("main_op", {"x": [1.0]}, "y", [8.0]),
        ("legacy_init_op", {"x": [1.0]}, "y", [8.0]),
        ("strings", {"text": ["hé", ""]}, "shout", ["hé!".encode(), b"!"]),
    ],
)
def test_every_kind_of_export_is_served(
    client: Client, model: str, inputs: dict[str, object], alias: str, expected: list[object]
) -> None:
    assert client.predict(spec(model), **inputs)[alias].tolist() == expected


def test_a_deadline_ends_the_runs_and_frees_their_threads(
    bases: dict[str, Path], tmp_path: Path, grpc_engine: str
) -> None:
    flags = ("--model_name=m", f"--model_base_path={bases['gated']}", "--grpc_max_threads=2")
    with running_server(*flags, grpc_engine) as server, client_of(server.grpc_port) as client:
        late = predict_request(spec(), gate=str(tmp_path / "never"))
        calls = [client.predictions.Predict.future(late, timeout=0.3) for _ in range(4)]
        assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}

        gate = tmp_path / "gate"
        gate.touch()
        assert client.predict(spec(), gate=str(gate))["version"] == 1


def test_a_hundred_calls_are_in_flight_on_one_channel(client: Client) -> None:
    requests = [predict_request(spec("half"), x=[[float(x)]]) for x in range(100)]
    futures = [client.future("Predict", request) for request in requests]
    answers = [future.result().outputs["y"].float_val[0] for future in futures]
    assert answers == [x / 2 + 2 for x in range(100)]


def test_calls_in_flight_outnumber_the_threads(
    client: Client, bases: dict[str, Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    futures = [
        client.future("Predict", predict_request(spec("gated"), gate=str(gate))) for _ in range(20)
    ]
    gate.touch()
    assert {future.result().outputs["version"].int64_val[0] for future in futures} == {1}


def test_threads_with_channels_of_their_own_get_their_own_answers(port: int) -> None:
    together = threading.Barrier(8)

    def ask(number: int) -> list[bool]:
        with client_of(port) as client:
            together.wait()
            return [
                client.predict(spec("half"), x=np.full((rows, 1), number, np.float32))["y"].tolist()
                == [[number / 2 + 2]] * rows
                for rows in range(40)
            ]

    with ThreadPoolExecutor(8) as pool:
        assert all(right for answers in pool.map(ask, range(8)) for right in answers)


def test_a_message_of_20_megabytes_goes_both_ways(client: Client) -> None:
    large = np.arange(5_000_000, dtype=np.float32)
    answer = identity(client, "float32", tf.make_tensor_proto(large))
    assert len(answer.float_val) == len(large)
    np.testing.assert_array_equal(tf.make_ndarray(answer), large)


def test_reflection_lists_the_services(port: int) -> None:
    assert reflected_services(port) == [
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.ProfilerService",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ]


@pytest.mark.parametrize(
    ("service", "request_"),
    [("PredictionService", b"PredictRequest"), ("ModelService", b"ReloadConfigRequest")],
)
def test_reflection_describes_the_methods(client: Client, service: str, request_: bytes) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol=f"tensorflow.serving.{service}"
    )
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=WAIT_SECONDS)
    described = b"".join(answer.file_descriptor_response.file_descriptor_proto)
    assert request_ in described


def reflected_services(port: int) -> list[str]:
    with client_of(port) as client:
        stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=WAIT_SECONDS)
    return sorted(service.name for service in answer.list_services_response.service)


@pytest.mark.parametrize("key", ["", "ModelService", "PredictionService"])
def test_health_is_serving_where_the_flag_says_so(content_client: Client, key: str) -> None:
    health = health_pb2_grpc.HealthStub(content_client.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=key), timeout=WAIT_SECONDS)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_is_listed_and_knows_no_other_key(content_client: Client, other_port: int) -> None:
    assert "grpc.health.v1.Health" in reflected_services(other_port)
    health = health_pb2_grpc.HealthStub(content_client.channel)
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="none"), timeout=WAIT_SECONDS)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_is_not_offered_without_the_flag(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.usefixtures("other_port")
def test_the_unix_socket_answers_as_the_port_does(socket_path: Path) -> None:
    with client_of(f"unix:{socket_path}") as client:
        answer = identity(client, "float32", in_typed_field("float32"))
    assert answer == in_tensor_content("float32")


def test_channel_arguments_are_honoured(content_client: Client) -> None:
    small, large = floats(*[1.0] * 1000), floats(*[1.0] * 100_000)
    identity(content_client, "float32", tf.make_tensor_proto(small))
    request = predict_request(spec("identities", "float32"), float32=large)
    code, text = content_client.failure("Predict", request)
    assert code == "RESOURCE_EXHAUSTED"
    assert "100000" in text


@pytest.mark.parametrize("service", ["/tensorflow.serving.SessionService/SessionRun", "/a.B/C"])
def test_what_is_not_served_is_unimplemented(client: Client, service: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary(service)(b"", timeout=WAIT_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
