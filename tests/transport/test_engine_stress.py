"""Hours of this must neither crash the interpreter, nor leak, nor hang, nor answer wrongly.

``STRESS_SECONDS`` in the environment says for how long each engine is stressed.
"""

import faulthandler
import gc
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from h2.exceptions import H2Error
from waiting import WAIT_SECONDS

from serving.core.errors import NotFound
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from tests.transport.http2_client import raw_client

ECHO = "/test.Stress/Echo"
LATER = "/test.Stress/Later"
TWICE = "/test.Stress/Twice"
RAISES = "/test.Stress/Raises"
NEVER = "/test.Stress/Never"
SECONDS = float(os.environ.get("STRESS_SECONDS", "30"))
CLIENTS = 12
LIFE_SECONDS = 5.0  # of one server: each ends in the middle of the storm


class Handlers:
    """Every way in which a handler may answer, or not."""

    def __init__(self):
        self.pool = ThreadPoolExecutor(8)

    def methods(self):
        return {
            ECHO: lambda request, context, reply: reply(request),
            LATER: self.later,
            TWICE: self.twice,
            RAISES: self.raises,
            NEVER: lambda request, context, reply: None,
        }

    def later(self, request, context, reply):
        self.pool.submit(self._reply_later, request, reply)

    def twice(self, request, context, reply):
        self.pool.submit(reply, request)
        self.pool.submit(reply, request)

    def raises(self, request, context, reply):
        if request.endswith(b"1"):
            raise NotFound("not here")
        raise RuntimeError("defect")

    def _reply_later(self, request, reply):
        time.sleep(random.random() / 200)
        reply(request)


class Client:
    """Calls in every way for as long as the server lives; wrong answers are kept."""

    def __init__(self, port, number):
        self.port = port
        self.random = random.Random(number)
        self.answers = 0
        self.wrong = []

    def run(self, ends_at):
        while time.monotonic() < ends_at:
            self.random.choice((self.behave, self.behave, self.watch, self.misbehave))()

    def behave(self):
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=own) as channel:
            for _ in range(100):
                method = self.random.choice((ECHO, ECHO, LATER, TWICE, RAISES, NEVER))
                self.call(channel, method)

    def call(self, channel, method):
        request = self.random.randbytes(self.random.choice((0, 10, 1000, 100_000)))
        timeout = self.random.choice((0.0001, 0.01, 0.1)) if method == NEVER else 5
        pending = channel.unary_unary(method).future(request, timeout=timeout)
        if self.random.random() < 0.1:
            pending.cancel()
        try:
            answer = pending.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            return
        self.answers += 1
        if answer != request:
            self.wrong.append((method, request, answer))

    def watch(self):
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            try:
                next(stream)
            except grpc.RpcError:
                return
            if self.random.random() < 0.5:
                stream.cancel()

    def misbehave(self):
        try:
            with raw_client(self.port) as client:
                for _ in range(self.random.randrange(100)):
                    stream = client.open(self.random.choice((ECHO, LATER, NEVER, "/no/method")))
                    if self.random.random() < 0.7:
                        client.send(stream, self.random.randbytes(2000))
                    if self.random.random() < 0.5:
                        client.http2.reset_stream(stream)
                    client.flush()
                client.vanish()
        except (OSError, H2Error):  # the server has hung up, or opens no window
            pass


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
def test_storms_of_calls_through_servers_that_come_and_go(grpc_engine, caplog):
    faulthandler.enable()
    caplog.set_level("CRITICAL")  # defects of handlers are logged, one by one
    handlers = Handlers()
    one_life(grpc_engine, handlers)  # what is made once is there
    gc.collect()
    threads, descriptors, objects = (
        threading.active_count(),
        open_descriptors(),
        len(gc.get_objects()),
    )
    ends_at = time.monotonic() + SECONDS
    answers = lives = 0
    while time.monotonic() < ends_at:
        answers += one_life(grpc_engine, handlers)
        lives += 1
    gc.collect()

    assert answers > 100 * lives
    assert threading.active_count() <= threads + 4
    assert open_descriptors() <= descriptors + 50  # gRPC's clients close theirs in their own time
    assert len(gc.get_objects()) < objects * 1.2


def one_life(engine, handlers):
    """Start a server, call it from all sides and stop it while the calls go on."""
    options = GrpcOptions(engine=engine, address="127.0.0.1:0", max_threads=8, health_service=True)
    server = GrpcServer(options, handlers.methods())
    server.start()
    server.set_serving(True)
    ends_at = time.monotonic() + LIFE_SECONDS
    clients = [Client(server.port, number) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(ends_at,)) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(LIFE_SECONDS * 0.8)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert channel.unary_unary(ECHO)(b"alive", timeout=WAIT_SECONDS) == b"alive"
    server.stop(0.2)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert [client.wrong for client in clients] == [[]] * CLIENTS
    return sum(client.answers for client in clients)
