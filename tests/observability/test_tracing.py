"""Calls as spans: names, attributes, parents and times."""

import threading

import pytest
from observed_calls import GRPC, HTTP, PREDICT, ended_call
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from serving.observability.observability_options import TracingOptions
from serving.observability.tracing import Tracing, start_tracing

START = 1_700_000_000.0
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01")
STAGES = {
    "lease_began": START + 0.0001,
    "queued": START + 0.0002,
    "run_began": START + 0.0005,
    "run_ended": START + 0.0012,
}


def traced(*metadata, sampler=None, **facts):
    """The call, and its spans by name; that of the call itself as ``call``."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    call = ended_call(Tracing(provider), *metadata, start=START, **facts)
    provider.shutdown()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    for name in [name for name in spans if spans[name].kind is SpanKind.SERVER]:
        spans["call"] = spans.pop(name)
    return call, spans


def microseconds(span):
    begin, end = (round((at - START * 1e9) / 1000) for at in (span.start_time, span.end_time))
    return begin, end


def test_a_grpc_call_is_a_server_span_in_the_words_of_the_conventions():
    call, spans = traced(
        model_name="half", version=3, signature_name="serving_default", rows=2, **STAGES
    )

    assert spans["call"].name == PREDICT
    assert dict(spans["call"].attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": PREDICT,
        "rpc.response.status_code": "OK",
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": 5000,
        "model_server.model.name": "half",
        "model_server.model.version": 3,
        "model_server.signature.name": "serving_default",
        "model_server.request.rows": 2,
        "model_server.request.id": call.request_id,
    }
    assert spans["call"].status.status_code is StatusCode.UNSET


def test_a_rest_call_is_named_after_its_route():
    _, spans = traced(arrival=HTTP, code="200", route="/v1/models/{model}:predict")

    attributes = spans["call"].attributes
    assert spans["call"].name == "POST /v1/models/{model}:predict"
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == "/v1/models/{model}:predict"
    assert attributes["url.path"] == "/v1/models/m:predict"
    assert attributes["http.response.status_code"] == 200
    assert attributes["network.peer.address"] == "::1"


def test_the_stages_are_children_at_the_times_that_were_written_down():
    _, spans = traced(**STAGES)

    parent = spans.pop("call")
    assert microseconds(parent) == (0, 1500)
    assert {name: microseconds(span) for name, span in spans.items()} == {
        "decode": (0, 200),
        "queue": (200, 500),
        "run": (500, 1200),
        "encode": (1200, 1500),
    }
    assert {span.parent.span_id for span in spans.values()} == {parent.context.span_id}


def test_a_load_that_was_waited_for_is_a_stage():
    _, spans = traced(**STAGES, lease_ended=START + 0.00015)

    assert microseconds(spans["decode"]) == (0, 100)
    assert microseconds(spans["load"]) == (100, 150)


def test_a_call_that_never_ran_has_waited_to_the_end():
    _, spans = traced(code="DEADLINE_EXCEEDED", lease_began=START, queued=START + 0.0001)

    assert spans.keys() == {"call", "decode", "queue"}
    assert microseconds(spans["queue"]) == (100, 1500)


def test_a_run_tells_what_it_was_run_with():
    _, spans = traced(rows=2, batch_requests=3, batch_rows=8, **STAGES)

    assert dict(spans["run"].attributes) == {
        "model_server.batch.requests": 3,
        "model_server.batch.size": 8,
    }


@pytest.mark.parametrize(
    ("arrival", "code", "is_error"),
    [
        (GRPC, "INTERNAL", True),
        (GRPC, "UNAVAILABLE", True),
        (GRPC, "INVALID_ARGUMENT", False),
        (HTTP, "503", True),
        (HTTP, "404", False),
    ],
)
def test_an_error_is_the_servers_where_the_conventions_say_so(arrival, code, is_error):
    _, spans = traced(arrival=arrival, code=code)

    status = StatusCode.ERROR if is_error else StatusCode.UNSET
    assert spans["call"].status.status_code is status
    assert spans["call"].attributes.get("error.type") == (code if is_error else None)


@pytest.mark.parametrize(("arrival", "code"), [(GRPC, "OK"), (HTTP, "200")])
def test_a_call_continues_its_clients_trace(arrival, code):
    call, spans = traced(PARENT, ("tracestate", "vendor=1"), arrival=arrival, code=code)

    span = spans["call"]
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert span.context.trace_state["vendor"] == "1"
    assert call.trace.trace_id == TRACE_ID
    assert call.trace.span_id == f"{span.context.span_id:016x}"


@pytest.mark.parametrize("value", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff"])
def test_a_trace_context_that_is_none_begins_a_trace(value):
    _, spans = traced(("traceparent", value))

    assert spans["call"].parent is None


@pytest.mark.parametrize(
    ("flags", "recorded"), [("00", False), ("01", True)], ids=["not sampled", "sampled"]
)
def test_whether_a_call_is_traced_is_what_its_client_decided(flags, recorded):
    parent = (PARENT[0], PARENT[1][:-2] + flags)
    call, spans = traced(parent, **STAGES)

    assert bool(spans) == recorded
    assert call.trace.trace_id == TRACE_ID


def test_what_is_not_sampled_has_no_span_but_ids_for_the_log():
    call, spans = traced(sampler=ParentBased(ALWAYS_OFF), **STAGES)

    assert spans == {}
    assert len(call.trace.trace_id) == 32


def test_a_stop_does_not_wait_for_long_for_a_collector_that_does_not_answer():
    answers = threading.Event()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.shutdown = answers.wait
    tracing = Tracing(provider, flush_seconds=0.01)

    tracing.stop()

    answers.set()


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "model_server"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, "theirs"),
    ],
)
def test_the_service_is_named_as_the_environment_says(monkeypatch, variables, name):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    tracing = start_tracing(TracingOptions("http://127.0.0.1:1", 0.0))
    tracing.stop()

    assert tracing._provider.resource.attributes["service.name"] == name


@pytest.mark.parametrize(("ratio", "recorded"), [(0.0, False), (1.0, True), (None, False)])
def test_without_a_ratio_the_environment_says_what_is_sampled(monkeypatch, ratio, recorded):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracing = start_tracing(TracingOptions("http://127.0.0.1:1", ratio))
    call = ended_call(Tracing(TracerProvider(shutdown_on_exit=False)))
    tracing.began(call, ())
    tracing.stop()

    assert call.trace.span.is_recording() == recorded
