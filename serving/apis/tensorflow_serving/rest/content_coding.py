"""Compression of bodies, RFC 9110 (8.4 and 12.5.3): gzip and zstd, in requests and responses."""

from __future__ import annotations

import gzip
import re
import zlib

import zstandard

from serving.apis.tensorflow_serving.rest.body import too_large
from serving.apis.tensorflow_serving.rest.verb import Content, Headers
from serving.core.errors import InvalidArgument

LEAST_BYTES = 1400
"""What fits into one packet is not compressed: there is nothing to gain."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_GZIP_LEVEL = 1  # numbers as text hardly get smaller with more effort
_ZSTD_LEVEL = 1
_ZSTD_CHUNK_BYTES = 2**10  # not more, as a block of 4 bytes may hold 128 KiB and come out whole
_ZSTD_MOST_WINDOW = 8 * 2**20  # what RFC 9659 lets a content coding ask a recipient for
# What follows a member is copied for the next one, which may be as small: so it gets little, and
# more for as long as it goes on.
_CHUNK_BYTES = 64 * 2**10
_FIRST_CHUNK_BYTES = 256
_QUALITY = re.compile(r"q=([01](?:\.[0-9]{0,3})?)", re.IGNORECASE)


def encode(content: Content, headers: Headers) -> Content:
    """The content in the coding that a request's Accept-Encoding likes best, if it is worth it."""
    body, media_type = content.body, content.media_type
    if len(body) < LEAST_BYTES:
        return content
    accepted = headers.get(b"accept-encoding")
    coding = preferred_coding(accepted.decode("latin-1")) if accepted else ""
    if coding == "zstd":
        body = zstandard.ZstdCompressor(_ZSTD_LEVEL).compress(body)
    elif coding == "gzip":
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    return Content(body, media_type, coding.encode(), varies=True)


def preferred_coding(accepted: str) -> str:
    """``zstd``, ``gzip`` or, for none of them, nothing: the one with the highest quality.

    Of two that are liked the same the cheaper one is taken, zstd. ``x-gzip`` is gzip, and so is
    ``*``: who sends it, such as a proxy, may never have heard of zstd.
    """
    qualities: dict[str, float] = {}
    for item in accepted.lower().split(","):
        name, _, parameters = item.partition(";")
        match = _QUALITY.fullmatch(parameters.strip())
        if parameters.strip() and match is None:
            continue  # not to be understood, so not accepted
        name = name.strip().removeprefix("x-")
        qualities[name] = float(match[1]) if match else 1.0
    others = qualities.get("*", 0.0)
    wanted = {"zstd": qualities.get("zstd", 0.0), "gzip": qualities.get("gzip", others)}
    best = max(wanted, key=wanted.__getitem__)
    return best if wanted[best] > 0 and wanted[best] >= qualities.get("identity", 0.0) else ""


def decode(body: bytes, headers: Headers, max_bytes: int) -> bytes:
    """The body of a request, decompressed as its Content-Encoding says.

    What is no gzip reads as empty, as TensorFlow Serving has it. Raises InvalidArgument for what
    is no zstd, and RequestTooLarge where more than ``max_bytes`` come out.
    """
    coding = headers.get(b"content-encoding")
    if coding is None:
        return body
    coding = coding.lower()
    if b"gzip" in coding:
        return _inflate(body, max_bytes)
    return _decompress(body, max_bytes) if coding.strip() == b"zstd" else body


def _inflate(body: bytes, max_bytes: int) -> bytes:
    """A gzip body inflated, all its members (RFC 1952) one after the other; empty if broken."""
    parts: list[bytes] = []
    room = max_bytes
    stream = zlib.decompressobj(_GZIP_WINDOW)
    at, most = 0, _CHUNK_BYTES
    while at < len(body):
        if stream.eof:
            stream = zlib.decompressobj(_GZIP_WINDOW)
            most = _FIRST_CHUNK_BYTES
        chunk = body[at : at + most]
        most = min(2 * most, _CHUNK_BYTES)
        try:
            part = stream.decompress(chunk, room + 1)  # as 0 would mean without a limit
        except zlib.error:
            return b""
        room -= len(part)
        if room < 0:
            raise too_large(max_bytes)
        parts.append(part)
        at += len(chunk) - len(stream.unused_data)
    return b"".join(parts) if stream.eof else b""


def _decompress(body: bytes, max_bytes: int) -> bytes:
    """A body of zstd frames (RFC 8878) decompressed, one after the other."""
    parts: list[bytes] = []
    room = max_bytes
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MOST_WINDOW)
    stream = decompressor.decompressobj()
    at = 0
    try:
        while at < len(body):
            if stream.eof:
                stream = decompressor.decompressobj()
            chunk = body[at : at + _ZSTD_CHUNK_BYTES]
            parts.append(stream.decompress(chunk))
            room -= len(parts[-1])
            if room < 0:
                raise too_large(max_bytes)
            at += len(chunk) - len(stream.unused_data)
    except zstandard.ZstdError as error:
        raise InvalidArgument(f"The request body is not valid zstd: {error}") from None
    if body and not stream.eof:
        raise InvalidArgument("The request body is not valid zstd: it ends too early")
    return b"".join(parts)
