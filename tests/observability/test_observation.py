"""What is put around models, servables and threads: where somebody listens, and there alone."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from serving.core.clock import SystemClock
from serving.core.errors import FailedPrecondition
from serving.core.observed_call import CURRENT_CALL, Arrival, Protocols, working_for
from serving.observability.access_log import AccessLog
from serving.observability.context_executor import ContextExecutor
from serving.observability.observability_options import ObservabilityOptions, TracingOptions
from serving.observability.observation import Observation
from serving.testing import FakeServable


@pytest.fixture
def running():
    with ExitStack() as running:
        yield running


def observation(running, **options):
    made = Observation(ObservabilityOptions(**options), SystemClock())
    made.start(running)
    return made


def begin(observed):
    return observed.observer.begin(Arrival(Protocols.GRPC, "p.S/M", ""), ())


def test_where_nobody_listens_everything_stays_what_it_is(running):
    off = observation(running)
    models, servable, threads = object(), FakeServable(), ThreadPoolExecutor(1)

    assert off.observer is None
    assert off.models(models) is models
    assert off.servable(servable) is servable
    assert off.threads(threads) is threads
    assert "access-log" not in {thread.name for thread in threading.enumerate()}


def test_an_access_log_has_every_client_told_its_id(running, tmp_path):
    on = observation(running, access_log=str(tmp_path / "access.log"))

    assert begin(on).returns_request_id


def test_how_many_calls_the_access_log_lacks_is_told_with_the_reason(running, monkeypatch):
    assert observation(running).calls_not_logged() == {}
    on = observation(running, access_log="stdout")
    assert on.calls_not_logged() == {"too_many": 0, "not_written": 0}
    monkeypatch.setattr(AccessLog, "dropped", 2)
    monkeypatch.setattr(AccessLog, "lost", 3)
    assert on.calls_not_logged() == {"too_many": 2, "not_written": 3}


def test_structured_lines_alone_have_ids_that_are_not_told(running):
    on = observation(running, log_format="json")

    assert not begin(on).returns_request_id


def test_work_on_other_threads_is_for_the_call_that_submitted_it(running):
    on = observation(running, log_format="json")
    call = begin(on)
    with ThreadPoolExecutor(1) as pool:
        threads = on.threads(pool)
        with working_for(call):
            submitted = threads.submit(CURRENT_CALL.get)

        assert isinstance(threads, ContextExecutor)
        assert submitted.result() is call
        assert pool.submit(CURRENT_CALL.get).result() is None


def test_traces_without_their_packages_end_the_start_and_say_what_to_install(running, monkeypatch):
    monkeypatch.setitem(sys.modules, "serving.observability.tracing", None)
    tracing = TracingOptions("http://127.0.0.1:4317")

    with pytest.raises(FailedPrecondition) as told:
        observation(running, tracing=tracing)

    assert told.value.message == (
        "tracing_endpoint needs opentelemetry, which is not installed: "
        "pip install '.[otel]' in a checkout of this server"
    )


def test_a_stop_writes_the_lines_that_wait(tmp_path):
    file = tmp_path / "access.log"
    with ExitStack() as running:
        on = observation(running, access_log=str(file))
        for _ in range(100):
            call = begin(on)
            call.answered("OK", 0)
            call.tell_ended()

    assert len(file.read_text().splitlines()) == 100
    assert AccessLog(str(file), as_json=False).dropped == 0
