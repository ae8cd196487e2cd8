"""What becomes of a request whose body does not go on, or not fast enough."""

from __future__ import annotations

import asyncio

from serving.transport.http_engine import AsgiApp, AsgiMessage, AsgiReceive, AsgiSend

STATUS = 408
MESSAGE = b"The request body stopped coming."


def within(app: AsgiApp, timeout_seconds: float, min_bytes: float) -> AsgiApp:
    """The app, for requests that are answered 408 where their body brings less in so long.

    Only the time counts in which the app waits for it. To the app that is a client that has left. 0
    seconds: bodies may take any time.
    """
    if not timeout_seconds:
        return app

    async def timed(scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        exchange = _Exchange(scope, receive, send, timeout_seconds, min_bytes)
        try:
            await app(scope, exchange.receive, exchange.send)
        except Exception:  # no cancellation, which is to end all at once
            await exchange.refused()
            raise
        await exchange.refused()

    return timed


class _Exchange:
    """The two directions of one request."""

    def __init__(
        self,
        scope: AsgiMessage,
        receive: AsgiReceive,
        send: AsgiSend,
        timeout_seconds: float,
        min_bytes: float,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._timeout_seconds = self._seconds_left = timeout_seconds
        self._min_bytes = self._bytes_left = min_bytes
        self._has_body = True
        self._has_stalled = self._has_begun = False
        self._refusal: asyncio.Task[None] | None = None

    async def receive(self) -> AsgiMessage:
        """As the server's; with a body that takes too long the client has left."""
        if self._has_stalled:
            return {"type": "http.disconnect"}
        if not self._has_body:
            return await self._receive()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._seconds_left):
                message = await self._receive()
        except TimeoutError:
            # To send may take as long as the client likes, and the application holds the body.
            self._has_stalled = True
            if not self._has_begun:
                self._refusal = loop.create_task(self._refuse())
            return {"type": "http.disconnect"}
        self._seconds_left -= loop.time() - began
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left <= 0:
            self._seconds_left, self._bytes_left = self._timeout_seconds, self._min_bytes
        self._has_body = bool(message.get("more_body"))
        return message

    async def send(self, message: AsgiMessage) -> None:
        """As the server's, until the body stalls."""
        if not self._has_stalled:
            self._has_begun = True
            await self._send(message)

    async def refused(self) -> None:
        """Once the refusal, if any, has been sent."""
        if self._refusal is not None:
            await self._refusal

    async def _refuse(self) -> None:
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(MESSAGE)),
        ]
        if self._scope["http_version"].startswith("1"):
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": STATUS, "headers": headers})
        await self._send({"type": "http.response.body", "body": MESSAGE})
