"""Request bodies off the wire: gathered from their chunks, and inflated."""

from __future__ import annotations

import zlib

from starlette.types import Receive

_INFLATED_BYTES = 100 * 2**20
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
# What follows a member is copied for the next one: in whole bodies, many small members would take
# time by the square of their number.
_CHUNK_BYTES = 64 * 2**10


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
    """A gzip body inflated, all its members (RFC 1952) one after the other.

    Empty when it is broken, or larger than 100 MiB inflated.
    """
    parts: list[bytes] = []
    room = _INFLATED_BYTES
    stream = zlib.decompressobj(_GZIP_WINDOW)
    at = 0
    while at < len(body):
        if stream.eof:
            stream = zlib.decompressobj(_GZIP_WINDOW)
        chunk = body[at : at + _CHUNK_BYTES]
        try:
            part = stream.decompress(chunk, room + 1)  # as 0 would mean without a limit
        except zlib.error:
            return b""
        room -= len(part)
        if room < 0:
            return b""
        parts.append(part)
        at += len(chunk) - len(stream.unused_data)
    return b"".join(parts) if stream.eof else b""
