"""What the span of a call says, in the words of OpenTelemetry's semantic conventions.

Those of RPC spans and of gRPC as of their release candidate, those of HTTP server spans, and
``model_server.*`` for what only a model server knows.
"""

from __future__ import annotations

from serving.core.errors import Code
from serving.core.observed_call import Arrival, ObservedCall, Protocols

Attributes = dict[str, str | int]

_SERVER_ERRORS = frozenset(
    code.name
    for code in (
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    )
)
"""The codes of gRPC that the conventions call errors of the server."""


def span_name(call: ObservedCall) -> str:
    """Of few different values: the method, with HTTP the route where it is known."""
    return f"{call.arrival.method} {call.route}" if call.route else call.arrival.method


def start_attributes(arrival: Arrival) -> Attributes:
    """What is known when a call begins, and so what samplers see."""
    if arrival.protocol is Protocols.GRPC:
        attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": arrival.method}
    else:
        attributes = {
            "http.request.method": arrival.method,
            "url.path": arrival.path,
            "url.scheme": arrival.scheme,
        }
    host, _, port = arrival.peer.rpartition(":")
    if port.isdigit():
        address = host.removeprefix("[").removesuffix("]")
        attributes["client.address"] = attributes["network.peer.address"] = address
        attributes["network.peer.port"] = int(port)
    return attributes


def last_attributes(call: ObservedCall) -> Attributes:
    """What is known when a call has ended."""
    attributes: Attributes = {"model_server.request.id": call.request_id}
    if call.arrival.protocol is Protocols.GRPC:
        attributes["rpc.response.status_code"] = call.code
    else:
        attributes["http.response.status_code"] = int(call.code)
        if call.route:
            attributes["http.route"] = call.route
    if is_server_error(call):
        attributes["error.type"] = call.code
    if call.model_name:
        attributes["model_server.model.name"] = call.model_name
    if call.version is not None:
        attributes["model_server.model.version"] = call.version
    if call.signature_name:
        attributes["model_server.signature.name"] = call.signature_name
    if call.rows is not None:
        attributes["model_server.request.rows"] = call.rows
    return attributes


def run_attributes(call: ObservedCall) -> Attributes:
    """What a run computed: for how many requests, and of how many rows in all."""
    attributes: Attributes = {"model_server.batch.requests": call.batch_requests}
    rows = call.rows if call.batch_rows is None else call.batch_rows
    if rows is not None:
        attributes["model_server.batch.size"] = rows
    return attributes


def is_server_error(call: ObservedCall) -> bool:
    """Whether the conventions have the span's status be an error: clients' mistakes are none."""
    if call.arrival.protocol is Protocols.GRPC:
        return call.code in _SERVER_ERRORS
    return call.code.startswith("5")
