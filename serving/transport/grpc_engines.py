"""Chooses the engine that carries gRPC calls."""

from __future__ import annotations

import importlib
import logging
import re

import grpc

from serving.transport.grpc_engine import GrpcEngine, GrpcMethods
from serving.transport.grpc_options import COMPLETION_QUEUE, THREADED, GrpcOptions

log = logging.getLogger(__name__)

_ENGINES = {
    COMPLETION_QUEUE: "serving.transport.completion_queue_engine:CompletionQueueEngine",
    THREADED: "serving.transport.threaded_engine:ThreadedEngine",
}
_TESTED_GRPCIO = ((1, 74), (1, 85))
_PRIVATE_NAMES = (
    "CompletionQueue.poll",
    "CompletionQueue.shutdown",
    "Server.register_completion_queue",
    "Server.add_http2_port",
    "Server.start",
    "Server.request_call",
    "Server.shutdown",
    "Server.cancel_all_calls",
    "Server.destroy",
    "Call.start_server_batch",
    "RequestCallEvent.call",
    "RequestCallEvent.call_details",
    "RequestCallEvent.invocation_metadata",
    "BatchOperationEvent.batch_operations",
    "CallDetails.method",
    "CallDetails.deadline",
    "ReceiveMessageOperation.message",
    "ReceiveCloseOnServerOperation",
    "SendInitialMetadataOperation",
    "SendMessageOperation",
    "SendStatusFromServerOperation",
    "StatusCode.ok",
)


def new_engine(options: GrpcOptions, methods: GrpcMethods) -> GrpcEngine:
    """The engine that the options name; the threaded one where grpcio is not as it was tested."""
    name = options.engine
    if name == COMPLETION_QUEUE:
        reason = why_untested()
        if reason:
            log.warning("gRPC engine %s is not used: %s", name, reason)
            name = THREADED
    log.info("gRPC engine: %s", name)
    module, _, attribute = _ENGINES[name].partition(":")
    engine: GrpcEngine = getattr(importlib.import_module(module), attribute)(options, methods)
    return engine


def why_untested() -> str:
    """Why the private interface of the installed grpcio is not the one tested; empty if it is."""
    oldest, newest = _TESTED_GRPCIO
    release = re.match(r"(\d+)\.(\d+)\.\d+$", grpc.__version__)
    version = (int(release[1]), int(release[2])) if release else (0, 0)
    if not oldest <= version <= newest:
        return f"grpcio {grpc.__version__} was not tested with it"
    from grpc._cython import cygrpc  # type: ignore[attr-defined]  # noqa: PLC0415  # may be gone in a version not tested

    missing = [name for name in _PRIVATE_NAMES if not _has(cygrpc, name)]
    return f"grpcio {grpc.__version__} lacks {', '.join(missing)}" if missing else ""


def _has(owner: object, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True
