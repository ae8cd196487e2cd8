"""What a REST request's client says besides its body: that it has gone, and how urgent it is."""

import asyncio
import contextlib
import gc
import http.client
import json
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_models import FakeModels
from waiting import WAIT_SECONDS

from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.core.errors import Unavailable
from serving.core.priority import Priority
from serving.testing import FakeServable, InlineExecutor
from serving.transport.http_options import HttpOptions
from serving.transport.http_server import HttpServer

TARGET = "/v1/models/m:predict"
REQUEST = b'{"instances": [1, 2]}'
ANSWER = {"predictions": [2.5, 3.0]}


class Work:
    """A run that is kept by those who may want to end it, and nobody else."""

    def __init__(self, model, options, done):
        self.model = model
        self.options = options
        self.done = done
        options.cancellation.when_cancelled(self.give_up)

    def give_up(self):
        self.model.given_up += 1
        self.done(Unavailable("given up"))


class Model(FakeServable):
    """Completes its runs when the test says so."""

    def __init__(self, *, keeps=True):
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)  # nobody has the work in hand any more
        self.given_up = 0
        self.works = [] if keeps else None
        self._alive = []

    def run(self, feeds, fetches, options, done):
        work = Work(self, options, done)
        work.complete = lambda: FakeServable.run(self, feeds, fetches, options, done)
        self._alive.append(weakref.ref(work, lambda _: self.ended.release()))
        if self.works is not None:
            self.works.append(work)
        self.begun.release()


class Served:
    """A server of one model, and connections to it."""

    def __init__(self, model):
        self.models = FakeModels(model)
        self._executor = ThreadPoolExecutor(2)
        self.http = HttpServer(
            HttpOptions("127.0.0.1", 0), RestApi(self.models, executor=self._executor)
        )

    def __enter__(self):
        self.http.start()
        return self

    def __exit__(self, *_):
        self.http.stop(0)
        self._executor.shutdown()

    def begin(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.http.port, timeout=WAIT_SECONDS)
        connection.request("POST", TARGET, REQUEST)
        return connection


def wait_for(semaphore, times=1):
    for _ in range(times):
        assert semaphore.acquire(timeout=WAIT_SECONDS)


def test_a_client_that_disconnects_ends_the_run_it_waits_for():
    model = Model(keeps=False)
    with Served(model) as served:
        connection = served.begin()
        wait_for(model.begun)
        connection.close()
        wait_for(model.ended)

    assert model.given_up == 1
    assert served.models.releases == 1


def test_a_run_that_is_answered_is_never_ended_and_the_connection_serves_on():
    model = Model()
    with Served(model) as served, contextlib.closing(served.begin()) as connection:
        for _ in range(3):
            wait_for(model.begun)
            model.works[-1].complete()
            assert json.loads(connection.getresponse().read()) == ANSWER
            connection.request("POST", TARGET, REQUEST)
        wait_for(model.begun)
        model.works[-1].complete()
        connection.getresponse().read()

    assert model.given_up == 0
    assert not any(work.options.cancellation.cancelled for work in model.works)


def test_a_stop_ends_the_runs_that_outlast_the_grace():
    model = Model(keeps=False)
    with Served(model) as served, contextlib.closing(served.begin()) as connection:
        wait_for(model.begun)
        served.http.stop(0)
        wait_for(model.ended)

        assert connection.getresponse().status == 503
    assert model.given_up == 1


def test_a_hundred_clients_that_leave_at_once_end_their_runs_and_leave_nothing():
    """Without a look of the collector."""
    model = Model(keeps=False)
    with Served(model) as served:
        connections = [served.begin() for _ in range(100)]
        wait_for(model.begun, 100)
        gc.disable()
        try:
            for connection in connections:
                connection.close()
            wait_for(model.ended, 100)
        finally:
            gc.enable()

    assert model.given_up == 100


def exchange(api, headers=()):
    """One request over ASGI; its status and body, and how often ``receive`` was called."""
    sent, received = [], []

    async def receive():
        received.append(None)
        if len(received) > 1:
            await asyncio.Future()
        return {"type": "http.request", "body": REQUEST}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": TARGET, "headers": list(headers)}
    asyncio.run(api(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), len(received)


class Recording(FakeServable):
    options = None

    def run(self, feeds, fetches, options, done):
        self.options = options
        super().run(feeds, fetches, options, done)


@pytest.fixture
def model():
    return Recording()


def api_of(model, **options):
    return RestApi(FakeModels(model), executor=InlineExecutor(), options=RestOptions(**options))


def test_a_client_that_need_not_wait_is_not_watched(model):
    """To watch it costs a task of the event loop."""
    assert exchange(api_of(model))[::2] == (200, 1)


@pytest.mark.parametrize("value", [b"low", b"urgent"])
def test_priorities_are_not_even_read_unless_they_are_honored(model, value):
    status, _, _ = exchange(api_of(model), [(b"x-request-priority", value)])
    assert (status, model.options.priority) == (200, Priority.NORMAL)


@pytest.mark.parametrize(
    ("headers", "priority"),
    [([], Priority.NORMAL), ([(b"x-request-priority", b"HIGH")], Priority.HIGH)],
)
def test_the_run_has_the_priority_that_its_request_asks_for(model, headers, priority):
    status, _, _ = exchange(api_of(model, honor_priorities=True), headers)
    assert (status, model.options.priority) == (200, priority)


def test_a_priority_that_there_is_none_of_is_refused(model):
    api = api_of(model, honor_priorities=True)
    status, body, _ = exchange(api, [(b"x-request-priority", b"urgent")])
    assert (status, json.loads(body)["error"]) == (
        400,
        "x-request-priority must be one of high, normal, low, not 'urgent'",
    )
    assert model.options is None
