"""Errors as gRPC says them. How HTTP says them is ``Code.http_status``."""

from __future__ import annotations

import grpc

from serving.core.call import Metadata
from serving.core.errors import Code, ServingError

_RETRY_PUSHBACK = "grpc-retry-pushback-ms"
_MESSAGE_LIMIT_BYTES = 1024
_TRUNCATED = "...TRUNCATED"

_GRPC_CODES: dict[Code, grpc.StatusCode] = {
    Code(status.value[0]): status for status in grpc.StatusCode
}


def grpc_status(error: ServingError) -> tuple[grpc.StatusCode, str]:
    """The status code and the text that a client gets.

    As from TensorFlow Serving, a message longer than 1024 bytes of UTF-8 is cut there and the
    suffix ``...TRUNCATED`` comes on top (1036 bytes in all): it travels in HTTP/2 headers, which
    are small. A character that the cut would split is left out.
    """
    message = error.message
    encoded = message.encode()
    if len(encoded) > _MESSAGE_LIMIT_BYTES:
        message = encoded[:_MESSAGE_LIMIT_BYTES].decode(errors="ignore") + _TRUNCATED
    return _GRPC_CODES[error.code], message


def trailing_metadata(error: ServingError) -> Metadata:
    """What goes with the status: when to try again, where the error knows (gRFC A6).

    gRPC clients whose service config has a retry policy wait for so long.
    """
    if error.retry_after_seconds is None:
        return ()
    return ((_RETRY_PUSHBACK, str(max(1, round(error.retry_after_seconds * 1000)))),)
