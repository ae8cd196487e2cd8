"""On which threads the REST gateway works, and what becomes of calls when the server stops."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rest_models import (
    REQUEST,
    SIGNATURES,
    Elsewhere,
    FakeModels,
    asgi_exchange,
    ask,
    compute,
    error_body,
)
from waiting import WAIT_SECONDS

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.npy import npz_bytes
from serving.apis.tensorflow_serving.rest.rest_api import RestApi
from serving.batching.direct_servable import DirectServable
from serving.core.clock import SystemClock
from serving.testing import FakeClock, FakeServable, InlineExecutor


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/v1/models/m:predict"), ("GET", "/v1/models/m/metadata")]
)
def test_a_call_holds_no_thread_while_its_model_loads(method, target):
    """With one thread, taken up by a job that begins after the call, the lease still arrives."""

    class Loading(FakeModels):
        def __init__(self) -> None:
            super().__init__(m=FakeServable(compute, SIGNATURES))
            self.deadline = 0.0

        def lease(self, spec, deadline, leased):
            self.deadline = deadline

            def end_load() -> None:
                executor.submit(lambda: None).result(WAIT_SECONDS)
                lend(spec, deadline, leased)

            lend = super().lease
            threading.Thread(target=end_load, daemon=True).start()

    models = Loading()
    with ThreadPoolExecutor(1) as executor:
        api = RestApi(models, executor=executor, clock=FakeClock(1000.0))
        assert ask(api, method, target, REQUEST).status == 200
    assert (models.lent, models.deadline) == (0, 1030.0)


class Recording(InlineExecutor):
    """Counts what is submitted."""

    submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("kind", [FakeServable, Elsewhere])
@pytest.mark.parametrize(
    ("request_rows", "answer_size", "jobs"), [(3, 1, 0), (3, 2000, 1), (20_000, 1, 2)]
)
def test_what_is_large_is_handed_to_the_executor_and_what_is_small_is_not(
    kind, request_rows, answer_size, jobs
):
    """Neither the event loop nor the thread of a batch does the work of a large one.

    The executor's thread is that of the event loop here, so a large request is two jobs.
    """
    executor = Recording()
    models = FakeModels(m=kind(lambda feeds: {"y:0": np.repeat(feeds["x:0"], answer_size)}))
    body = json.dumps({"instances": [1.0] * request_rows})
    response = ask(RestApi(models, executor=executor), "POST", "/v1/models/m:predict", body)
    assert json.loads(response.body) == {"predictions": [1.0] * request_rows * answer_size}
    assert (executor.submitted, models.lent) == (jobs, 0)


def test_the_status_answers_while_every_thread_runs_a_model():
    begun, end = threading.Event(), threading.Event()

    def compute_slowly(feeds):
        begun.set()
        end.wait(5)  # or it would hang where it should fail
        return {"y:0": feeds["x:0"]}

    async def exchange(api):
        run = asyncio.create_task(asgi_exchange(api, "POST", "/v1/models/m:predict", REQUEST, {}))
        while not begun.is_set():
            await asyncio.sleep(0)
        status = await asgi_exchange(api, "GET", "/v1/models/m", b"", {})
        still_running = not run.done()
        end.set()
        await run
        return status.status, still_running

    with ThreadPoolExecutor(1) as executor:
        servable = DirectServable(FakeServable(compute_slowly), executor, SystemClock())
        api = RestApi(FakeModels(m=servable), executor=executor)
        assert asyncio.run(exchange(api)) == (200, True)


def test_a_call_after_the_shutdown_is_unavailable(models):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    large = REQUEST + b" " * 2**20
    response = ask(RestApi(models, executor=executor), "POST", "/v1/models/m:predict", large)
    assert (response.status, response.body) == (503, error_body("the server is shutting down"))


class ShutsDown(InlineExecutor):
    """Takes one job and no more."""

    taken = False

    def submit(self, fn, /, *args, **kwargs):
        if self.taken:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self.taken = True
        return super().submit(fn, *args, **kwargs)


def test_a_run_that_completes_after_the_shutdown_is_answered():
    models = FakeModels(m=Elsewhere())
    large = json.dumps({"instances": [1.0] * 10_000})
    response = ask(RestApi(models, executor=ShutsDown()), "POST", "/v1/models/m:predict", large)
    assert (response.status, models.lent) == (200, 0)


def test_a_client_that_leaves_before_the_end_gets_no_answer(api):
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("nobody listens")

    scope = {"type": "http", "method": "POST", "path": "/v1/models/m:predict", "headers": []}
    asyncio.run(api(scope, receive, send))


class Noting(FakeServable):
    """Notes the thread of each run, and whether it was told that it may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = []

    def run(self, feeds, fetches, options, done):
        self.runs.append((threading.current_thread().name, options.caller_may_wait))
        super().run(feeds, fetches, options, done)


@pytest.mark.parametrize(("rows", "thread"), [(3, "MainThread"), (20_000, "executor_0")])
def test_after_a_load_what_is_large_goes_on_off_the_event_loop(rows, thread):
    servable = Noting()

    class Loading(FakeModels):
        def lease(self, spec, deadline, leased):
            lend = super().lease
            threading.Thread(target=lambda: lend(spec, deadline, leased)).start()

    with ThreadPoolExecutor(1, thread_name_prefix="executor") as executor:
        api = RestApi(Loading(m=servable), executor=executor)
        body = json.dumps({"instances": [1.0] * rows})
        assert ask(api, "POST", "/v1/models/m:predict", body).status == 200
    assert servable.runs == [(thread, thread != "MainThread")]


def test_for_a_client_that_has_left_nothing_is_written(monkeypatch):
    """It would be written on the thread of the batch, and keep the next one waiting."""
    written = []
    monkeypatch.setattr(json_writer, "predictions", written.append)
    ends = []

    class Held(FakeServable):
        def run(self, feeds, fetches, options, done):
            run = super().run
            ends.append((options.cancellation, lambda: run(feeds, fetches, options, done)))

    models = FakeModels(m=Held())
    incoming = [{"type": "http.request", "body": REQUEST}, {"type": "http.disconnect"}]

    async def receive():
        return incoming.pop(0)

    async def send(message):
        assert message

    async def exchange():
        scope = {"type": "http", "method": "POST", "path": "/v1/models/m:predict", "headers": []}
        call = asyncio.create_task(RestApi(models, executor=InlineExecutor())(scope, receive, send))
        while not (ends and ends[0][0].cancelled):
            await asyncio.sleep(0)
        batch = threading.Thread(target=ends[0][1])
        batch.start()
        await call
        batch.join()

    asyncio.run(exchange())
    assert (written, models.lent) == ([], 0)


def test_a_short_archive_which_may_hold_much_is_read_off_the_event_loop():
    executor = Recording()
    api = RestApi(FakeModels(m=FakeServable()), executor=executor)
    body = npz_bytes({"x": np.ones(3, np.float32)})
    headers = {"Content-Type": "application/x-npz"}
    assert ask(api, "POST", "/v1/models/m:predict", body, headers).status == 200
    assert executor.submitted > 0


def stopped(api, has_come_so_far):
    """The answer to a request that is being worked on when the time of the server is over."""

    async def stop():
        run = asyncio.create_task(asgi_exchange(api, "POST", "/v1/models/m:predict", REQUEST, {}))
        await asyncio.sleep(0)
        while not has_come_so_far():
            await asyncio.sleep(0)
        run.cancel()
        return (await run).status

    return asyncio.run(stop())


def test_a_call_is_not_begun_after_the_stop(models):
    assert stopped(RestApi(models, executor=InlineExecutor()), lambda: True) == 503
    assert models.leases == []


def test_a_call_that_is_stopped_when_it_has_just_begun_is_cancelled():
    begun = []

    class Unanswered(FakeServable):
        def run(self, feeds, fetches, options, done):
            begun.append(options.cancellation)

    api = RestApi(FakeModels(m=Unanswered()), executor=InlineExecutor())
    assert stopped(api, lambda: begun) == 503
    assert begun[0].cancelled


def test_an_answer_that_is_there_at_the_stop_is_sent():
    run = []

    def compute(feeds):
        run.append(feeds)
        return {"y:0": feeds["x:0"]}

    models = FakeModels(m=FakeServable(compute))
    assert stopped(RestApi(models, executor=InlineExecutor()), lambda: run) == 200
    assert models.lent == 0
