"""TensorFlow's own profiler client against the gRPC port, while requests run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from exported_models import half_plus_two
from stock_clients import WAIT_SECONDS, Client, await_, client_of, publish, spec
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from serving.testing import running_server

PROFILE_MS = 200


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(half_plus_two, tmp_path_factory.mktemp("profiler") / "m", 1).parent


@pytest.fixture(scope="module")
def port(base: Path, grpc_engine: str) -> Iterator[int]:
    with running_server(grpc_engine, "--model_name=m", f"--model_base_path={base}") as server:
        assert server.grpc_port
        yield server.grpc_port


@contextmanager
def busy(port: int) -> Iterator[None]:
    """Requests follow one another until the block ends; none may fail."""
    idle = threading.Event()
    failures: list[grpc.RpcError] = []

    def ask(client: Client) -> None:
        while not idle.is_set() and not failures:
            try:
                client.predict(spec(), x=[[1.0]])
            except grpc.RpcError as error:
                failures.append(error)

    with client_of(port) as client:
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        try:
            yield
        finally:
            idle.set()
            thread.join(WAIT_SECONDS)
    assert not failures


def test_a_trace_of_requests_is_captured_and_saved_where_the_client_is(
    port: int, tmp_path: Path
) -> None:
    with busy(port):
        tf.profiler.experimental.client.trace(
            f"grpc://127.0.0.1:{port}", str(tmp_path), PROFILE_MS, num_tracing_attempts=30
        )

    (file,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    planes = XSpace.FromString(file.read_bytes()).planes
    assert any(line.events for plane in planes for line in plane.lines)


def test_monitoring_tells_on_what_the_time_goes(port: int) -> None:
    monitor = tf.profiler.experimental.client.monitor
    texts: list[str] = []

    def tells() -> bool:
        """Not for sure at once: the machine may be busy with other things for so long."""
        texts.append(monitor(f"grpc://127.0.0.1:{port}", PROFILE_MS, 2))
        return "/host:CPU" in texts[-1]

    with busy(port):
        await_(tells, lambda: f"the time of the host in {texts[-1]}")
    assert texts[-1].startswith("Timestamp: ")


def test_it_is_not_offered_where_that_is_not_wanted(base: Path) -> None:
    flags = ("--model_name=m", f"--model_base_path={base}", "--enable_profiler=false")
    with (
        running_server(*flags) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary("/tensorflow.ProfilerService/Monitor")(b"", timeout=WAIT_SECONDS)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
