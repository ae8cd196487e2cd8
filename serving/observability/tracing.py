"""Calls as OpenTelemetry traces: a span for each, with children for its stages.

Imported only where traces are asked for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.core.observed_call import ObservedCall, RequestMetadata
from serving.observability.observability_options import TracingOptions
from serving.observability.span_attributes import (
    is_server_error,
    last_attributes,
    run_attributes,
    span_name,
    start_attributes,
)

_SCOPE = "model_server"
_TRACE_CONTEXT = ("traceparent", "tracestate")
_FLUSH_SECONDS = 3.0
"""What a collector that does not answer may hold up the end of the process."""


class Tracing:
    """A CallListener that makes spans of calls.

    A call continues the trace that its client names by W3C trace context. Its span is made when it
    begins, so that its ids are known in the log, and its children when it has ended, from the
    moments that were written down: until then a call that is traced costs what one that is not
    costs. A request that a batch runs together with others has a run of its own in its own trace,
    which says what it was run with: a span of the batch would belong to no trace, and nobody could
    say whether to sample it.
    """

    def __init__(self, provider: TracerProvider, *, flush_seconds: float = _FLUSH_SECONDS) -> None:
        """``flush_seconds`` bounds how long a stop waits for the collector."""
        self._provider = provider
        self._flush_seconds = flush_seconds
        self._tracer = provider.get_tracer(_SCOPE)
        self._propagator = TraceContextTextMapPropagator()

    def began(self, call: ObservedCall, metadata: RequestMetadata) -> None:
        carrier: dict[str, list[str]] = {}
        for key, value in metadata:
            if key in _TRACE_CONTEXT:
                carrier.setdefault(key, []).append(str(value))
        span = self._tracer.start_span(
            span_name(call),
            self._propagator.extract(carrier) if carrier else None,
            SpanKind.SERVER,
            start_attributes(call.arrival),
            start_time=_nanoseconds(call, call.began),
        )
        if span.get_span_context().is_valid:
            call.trace = _Trace(span)

    def ended(self, call: ObservedCall) -> None:
        if not isinstance(call.trace, _Trace):
            return
        span = call.trace.span
        if span.is_recording():
            span.update_name(span_name(call))
            span.set_attributes(last_attributes(call))
            if is_server_error(call):
                span.set_status(StatusCode.ERROR)
            _add_stages(self._tracer, span, call)
        span.end(_nanoseconds(call, call.ended))

    def stop(self) -> None:
        """Send what is left, as far as the collector takes it soon, and then no more."""
        thread = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        thread.start()
        thread.join(self._flush_seconds)


def start_tracing(options: TracingOptions) -> Tracing:
    """Traces that go to a collector, over OTLP, from a thread of their own.

    What the options leave open, the standard OTEL_* variables say.
    """
    sampler: Sampler | None = None
    if options.sample_ratio is not None:
        sampler = ParentBased(TraceIdRatioBased(options.sample_ratio))
    provider = TracerProvider(sampler, _resource(), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(options.endpoint)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


@dataclass(frozen=True, slots=True)
class _Trace:
    """The :class:`~serving.core.observed_call.TraceIds` of a call."""

    span: Span

    @property
    def trace_id(self) -> str:
        return format_trace_id(self.span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        return format_span_id(self.span.get_span_context().span_id)


def _resource() -> Resource:
    """What describes this process; the service has our name unless the environment has another."""
    found = Resource.create({"process.pid": os.getpid()})
    name = str(found.attributes.get("service.name", ""))
    if name and not name.startswith("unknown_service"):
        return found
    return found.merge(Resource({"service.name": _SCOPE}))


def _add_stages(tracer: Tracer, parent: Span, call: ObservedCall) -> None:
    context = set_span_in_context(parent)
    for name, begin, end in _stages(call):
        attributes = run_attributes(call) if name == "run" else None
        span = tracer.start_span(
            name, context, attributes=attributes, start_time=_nanoseconds(call, begin)
        )
        span.end(_nanoseconds(call, end))


def _stages(call: ObservedCall) -> Iterator[tuple[str, float, float]]:
    """What the call went through, with the moments between which it did.

    Where a model was waited for, ``decode`` ends with the question for it.
    """
    last = call.ended or call.began
    if call.lease_began is not None:
        if call.lease_ended is None:
            yield "decode", call.began, call.queued or call.lease_began
        else:
            yield "decode", call.began, call.lease_began
            yield "load", call.lease_began, call.lease_ended
    if call.queued is not None:
        yield "queue", call.queued, call.run_began or call.run_ended or last
    if call.run_began is not None:
        yield "run", call.run_began, call.run_ended or last
    if call.run_ended is not None:
        yield "encode", call.run_ended, last


def _nanoseconds(call: ObservedCall, moment: float | None) -> int:
    """Since the epoch."""
    passed = (moment or call.began) - call.began
    return round((call.began_time + passed) * 1e9)
