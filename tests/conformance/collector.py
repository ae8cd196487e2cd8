"""What stands in for an OpenTelemetry collector: its service, from the stock stubs of OTLP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from stock_clients import WAIT_SECONDS


@dataclass(frozen=True)
class Received:
    """A span, and what sent it."""

    span: Span
    resource: Mapping[str, Any]

    @property
    def attributes(self) -> Mapping[str, Any]:
        return values_of(self.span.attributes)


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it receives."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    changed: Condition = field(default_factory=Condition)

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - OTLP's
        with self.changed:
            for resource_spans in request.resource_spans:
                resource = values_of(resource_spans.resource.attributes)
                for scope_spans in resource_spans.scope_spans:
                    self.received += [Received(span, resource) for span in scope_spans.spans]
            self.changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_trace(self, trace_id: str, number: int) -> dict[str, Received]:
        """The spans of a trace by name, once there are so many."""

        def found() -> dict[str, Received]:
            return {
                each.span.name: each
                for each in self.received
                if each.span.trace_id.hex() == trace_id
            }

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= number, WAIT_SECONDS), found()
            return found()


def values_of(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a loopback port that the system picks."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait()
