"""One request to the REST gateway over ASGI, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass
class Response:
    """What came back, the headers by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes
    received: int
    """How many chunks of the request's body were asked for."""


def ask(
    api,
    method: str,
    target: str,
    body: bytes | Sequence[bytes] = b"",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer to a request whose body comes in these chunks."""
    chunks = [body] if isinstance(body, bytes) else [*body]
    return asyncio.run(exchange(api, method, target, chunks, headers or {}))


async def exchange(
    api, method: str, target: str, chunks: Sequence[bytes], headers: Mapping[str, str]
) -> Response:
    """The same, among other tasks of an event loop."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (key.lower().encode(), value.encode("latin-1")) for key, value in headers.items()
        ],
    }
    incoming = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]
    sent: list[dict] = []

    async def receive():
        return incoming.pop(0) if incoming else await asyncio.Future()

    async def send(message):
        sent.append(message)

    await api(scope, receive, send)
    start, *rest = sent
    return Response(
        start["status"],
        {key.decode(): value.decode() for key, value in start["headers"]},
        b"".join(message["body"] for message in rest),
        len(chunks) - len(incoming),
    )
