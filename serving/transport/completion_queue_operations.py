"""What grpcio's completion queue is asked to do for a call.

An operation holds memory of gRPC's: it belongs to one call and is never used twice. gRPC keeps a
call's memory as long as a batch of its operations is under way or somebody holds the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # no stubs for it

from serving.core.call import Metadata, WithMetadata
from serving.core.errors import ServingError
from serving.transport.status import grpc_status, trailing_metadata

_ReceiveMessage = cygrpc.ReceiveMessageOperation
_ReceiveClose = cygrpc.ReceiveCloseOnServerOperation
_SendInitialMetadata = cygrpc.SendInitialMetadataOperation
_SendMessage = cygrpc.SendMessageOperation
_SendStatus = cygrpc.SendStatusFromServerOperation

_NO_FLAGS = 0
_OK = int(cygrpc.StatusCode.ok)


def start_batch(call: Any, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
    """Have gRPC do all the operations of one batch, and deliver one event with this tag."""
    error = call.start_server_batch(operations, tag)
    if error:
        raise RuntimeError(f"gRPC refused a batch of operations: error {error}")


def answer(result: bytes | ServingError | WithMetadata) -> tuple[Any, ...]:
    """Everything that a unary call is answered with."""
    if isinstance(result, ServingError):
        return (initial_metadata(), status(result))
    if isinstance(result, WithMetadata):
        return _answer_with_metadata(result.answer, result.metadata)
    return (
        _SendInitialMetadata(None, _NO_FLAGS),
        _SendMessage(result, _NO_FLAGS),
        _SendStatus(None, _OK, b"", _NO_FLAGS),
    )


def receive_message() -> Any:
    """Its ``message()`` is None where the client has sent no more."""
    return _ReceiveMessage(_NO_FLAGS)


def receive_close() -> Any:
    """Done when the call has ended, whoever ended it."""
    return _ReceiveClose(_NO_FLAGS)


def initial_metadata() -> Any:
    return _SendInitialMetadata(None, _NO_FLAGS)


def send_message(message: bytes) -> Any:
    return _SendMessage(message, _NO_FLAGS)


def status(error: ServingError | None, metadata: Metadata = ()) -> Any:
    """Ends the call; None: without an error. ``metadata`` goes behind what the error has."""
    if error is None:
        return _SendStatus(metadata or None, _OK, b"", _NO_FLAGS)
    code, details = grpc_status(error)
    trailing = (*trailing_metadata(error), *metadata)
    return _SendStatus(trailing or None, code.value[0], details.encode(), _NO_FLAGS)


def _answer_with_metadata(result: bytes | ServingError, metadata: Metadata) -> tuple[Any, ...]:
    if isinstance(result, ServingError):
        return (initial_metadata(), status(result, metadata))
    return (initial_metadata(), send_message(result), status(None, metadata))
