"""A replica answers as a server on ports does, on an event loop. Needs no Ray."""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tensorflow as tf
from exported_models import half_plus_two
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from waiting import await_

from serving import memory
from serving.core.call import CallContext, TransportReply
from serving.core.errors import ServingError, Unavailable
from serving.ray_serve.grpc_services import SERVICES, add_services_to_server
from serving.ray_serve.replica import Replica
from serving.ray_serve.replica_calls import ReplicaCalls

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Context:
    """What Ray's RayServegRPCContext is to a replica."""

    def __init__(self, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self.metadata = metadata
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: list[tuple[str, str]] = []

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self.metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None:
        self.trailing = trailing_metadata


def predict_request(model: str = "half_plus_two", x: float = 1.0) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([x]))
    return request


def y(data: bytes) -> list[float]:
    return tf.make_ndarray(predict_pb2.PredictResponse.FromString(data).outputs["y"]).tolist()


@pytest.fixture(scope="module")
def new_replica() -> Iterator[Callable[..., Replica]]:
    """Makes replicas, which end with the module."""
    replicas: list[Replica] = []

    def new(**flags: object) -> Replica:
        replicas.append(Replica(flags))
        return replicas[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "set_up", lambda: None)  # it is for the whole process
        yield new
    for replica in replicas:
        replica.stop()


@pytest.fixture(scope="module")
def replica(new_replica: Callable[..., Replica], exported: Callable[..., Path]) -> Replica:
    path = exported(half_plus_two).parent
    return new_replica(model_name="half_plus_two", model_base_path=str(path))


def test_a_request_is_answered_as_bytes_and_as_a_message(replica: Replica):
    for request in (predict_request(), predict_request().SerializeToString()):
        context = Context()
        answer = asyncio.run(replica.Predict(request, context))
        assert y(answer.SerializeToString()) == [2.5]
        assert context.code is None


def test_an_error_is_a_status_and_not_an_exception(replica: Replica):
    context = Context()
    answer = asyncio.run(replica.Predict(predict_request("other"), context))
    assert answer.SerializeToString() == b""
    assert context.code is grpc.StatusCode.NOT_FOUND
    assert context.details == "Servable not found for request: Latest(other)"


def test_the_states_of_a_model_are_those_in_the_replica(replica: Replica):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half_plus_two"
    answer = asyncio.run(replica.GetModelStatus(request, Context()))
    (state,) = get_model_status_pb2.GetModelStatusResponse.FromString(
        answer.SerializeToString()
    ).model_version_status
    assert (state.version, state.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


def test_a_reload_is_refused_since_other_replicas_would_not_hear_of_it(replica: Replica):
    context = Context()
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    asyncio.run(replica.HandleReloadConfigRequest(request, context))
    assert context.code is grpc.StatusCode.UNIMPLEMENTED
    assert "one replica of several" in context.details
    asyncio.run(replica.Predict(predict_request(), context := Context()))
    assert context.code is None


def test_calls_meet_in_a_batch_and_hold_no_thread(
    new_replica: Callable[..., Replica], exported: Callable[..., Path], tmp_path: Path
):
    """The batch runs when it is full, so with one thread nobody may wait on it."""
    parameters = tmp_path / "batching.config"
    parameters.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 3600000000 } "
        "num_batch_threads { value: 1 }"
    )
    replica = new_replica(
        model_name="half_plus_two",
        model_base_path=str(exported(half_plus_two).parent),
        enable_batching=True,
        batching_parameters_file=str(parameters),
        grpc_max_threads=1,
    )

    async def calls() -> list[Any]:
        return await asyncio.gather(
            *(replica.Predict(predict_request(x=float(x)), Context()) for x in range(8))
        )

    answers = [y(answer.SerializeToString()) for answer in asyncio.run(calls())]
    assert answers == [[x / 2 + 2] for x in range(8)]


def test_work_for_a_call_that_ray_cancels_is_told_so():
    """Not before the handler has returned, which is what handlers count on."""
    contexts: list[CallContext] = []
    replies: list[TransportReply] = []
    cancelled_meanwhile: list[bool] = []

    async def cancel() -> None:
        loop = asyncio.get_running_loop()
        entered, leave = asyncio.Event(), futures.Future[None]()

        def handler(_request: bytes, context: CallContext, reply: TransportReply) -> None:
            contexts.append(context)
            replies.append(reply)
            loop.call_soon_threadsafe(entered.set)
            leave.result()
            cancelled_meanwhile.append(context.cancellation.cancelled)

        calls = ReplicaCalls({PREDICT: handler}, threads)
        call = asyncio.create_task(calls.answer(PREDICT, b"", Context()))
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        told = asyncio.Event()
        leave.set_result(None)
        contexts[0].cancellation.when_cancelled(lambda: loop.call_soon_threadsafe(told.set))
        await told.wait()
        replies[0](b"too late")

    with futures.ThreadPoolExecutor(1) as threads:
        asyncio.run(cancel())
    assert cancelled_meanwhile == [False]


def test_an_answer_may_come_from_another_thread_with_metadata(
    new_replica: Callable[..., Replica], exported: Callable[..., Path], tmp_path: Path
):
    """Where calls are observed, their id goes back."""
    replica = new_replica(
        model_name="half_plus_two",
        model_base_path=str(exported(half_plus_two).parent),
        access_log=str(tmp_path / "access.log"),
    )
    context = Context([("x-request-id", "mine")])
    asyncio.run(replica.Predict(predict_request(), context))
    assert context.trailing == [("x-request-id", "mine")]


def http(replica: Replica, method: str, path: str, prefix: str = "") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(replica.__serve_build_asgi_app__(), root_path=prefix)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            content = '{"instances": [1.0]}' if method == "POST" else None
            return await client.request(method, prefix + path, content=content)

    return asyncio.run(ask())


@pytest.mark.parametrize("prefix", ["", "/models-of-mine"])
def test_rest_is_answered_below_the_prefix_of_the_application(replica: Replica, prefix: str):
    answer = http(replica, "POST", "/v1/models/half_plus_two:predict", prefix)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [2.5]})
    answer = http(replica, "GET", "/v1/models/other", prefix)
    assert answer.status_code == 404
    assert json.loads(answer.text)["error"].startswith("Could not find any versions of model other")


def test_a_replica_has_a_page_of_metrics(
    new_replica: Callable[..., Replica], exported: Callable[..., Path], tmp_path: Path
):
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    replica = new_replica(
        model_name="half_plus_two",
        model_base_path=str(exported(half_plus_two).parent),
        monitoring_config_file=str(monitoring),
    )
    asyncio.run(replica.Predict(predict_request(), Context()))
    page = http(replica, "GET", "/monitoring/prometheus/metrics").text
    assert ':request_count{model_name="half_plus_two",status="OK"} 1' in page


def test_the_replica_ends_with_the_lifespan_of_its_app(
    new_replica: Callable[..., Replica], exported: Callable[..., Path]
):
    path = exported(half_plus_two).parent
    replica = new_replica(model_name="half_plus_two", model_base_path=str(path))
    replica.check_health()
    said: list[str] = []

    async def live() -> None:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            return {"type": next(messages)}

        async def send(message: dict[str, Any]) -> None:
            said.append(message["type"])

        await replica.__serve_build_asgi_app__()({"type": "lifespan"}, receive, send)

    asyncio.run(live())
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(Unavailable):
        replica.check_health()


def test_a_replica_without_one_of_its_models_does_not_start(
    new_replica: Callable[..., Replica], exported: Callable[..., Path], tmp_path: Path
):
    (tmp_path / "empty").mkdir()
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list {"
        f' config {{ name: "there" base_path: "{exported(half_plus_two).parent}" }}'
        f' config {{ name: "missing" base_path: "{tmp_path}/empty" }}'
        "}"
    )
    with pytest.raises(Unavailable, match=r"not every model is available: missing \("):
        new_replica(model_config_file=str(config))


def test_a_replica_that_loses_its_models_is_unhealthy(
    new_replica: Callable[..., Replica], exported: Callable[..., Path], tmp_path: Path
):
    shutil.copytree(exported(half_plus_two), tmp_path / "half_plus_two" / "1")
    replica = new_replica(
        model_name="half_plus_two", model_base_path=str(tmp_path / "half_plus_two")
    )
    replica.check_health()
    shutil.rmtree(tmp_path / "half_plus_two" / "1")

    def is_unhealthy() -> bool:
        try:
            replica.check_health()
        except ServingError as error:
            return "no model can be asked for" in error.message
        return False

    await_(is_unhealthy)


def test_ray_finds_a_method_for_each_that_the_proxies_offer(replica: Replica):
    paths = {f"/{service}/{name}" for service, names in SERVICES.items() for name in names}
    offered = replica._ports.methods
    assert paths == {path for path in offered if path.split("/")[1] in SERVICES}
    for path in paths:
        method: Callable[..., Coroutine[Any, Any, Any]] = getattr(replica, path.split("/")[2])
        assert inspect.iscoroutinefunction(method)
        assert "grpc_context" in inspect.signature(method).parameters


def test_proxies_hand_on_the_bytes_of_stock_clients():
    asked: list[bytes] = []

    class Servicer:
        def __getattr__(self, name: str) -> Callable[[bytes, object], bytes]:
            def answer(request: bytes, _context: object) -> bytes:
                asked.append(request)
                return predict_pb2.PredictResponse().SerializeToString()

            return answer

    server = grpc.server(futures.ThreadPoolExecutor(1))
    add_services_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(predict_request(), timeout=60)
    finally:
        server.stop(None).wait()
    assert asked == [predict_request().SerializeToString()]


def test_proxies_need_no_tensorflow():
    program = "import sys, serving.ray_serve.grpc_services; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
