"""Request bodies off the wire: gathered from their chunks, and inflated."""

from __future__ import annotations

import zlib

from starlette.types import Receive

_INFLATED_BYTES = 100 * 2**20
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


async def receive_body(receive: Receive) -> bytes | None:
    """The whole body of a request; None when the client went away before its end."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def inflate(body: bytes) -> bytes:
    """A gzip body inflated; empty when it is broken, or larger than 100 MiB inflated."""
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        inflated = stream.decompress(body, _INFLATED_BYTES)
    except zlib.error:
        return b""
    return inflated if stream.eof else b""
