"""Request bodies off the wire, gathered from their chunks, as long as they are not too large."""

from __future__ import annotations

from starlette.types import Receive

from serving.apis.tensorflow_serving.rest.verb import Headers
from serving.core.errors import RequestTooLarge


async def receive_body(receive: Receive, headers: Headers, max_bytes: int) -> bytes | None:
    """The whole body of a request; None when the client went away before its end.

    Raises RequestTooLarge as soon as that is known: before anything is read where the request says
    its length, else with the chunk that exceeds ``max_bytes``.
    """
    told = headers.get(b"content-length", b"")
    if told.isdigit() and (len(told) > 18 or int(told) > max_bytes):
        raise too_large(max_bytes)
    chunks: list[bytes] = []
    room = max_bytes
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        room -= len(chunk)
        if room < 0:
            raise too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)


def too_large(max_bytes: int) -> RequestTooLarge:
    """What is told to a client whose body, as sent or as decoded, is larger."""
    return RequestTooLarge(f"The request body is larger than {max_bytes} bytes.")
