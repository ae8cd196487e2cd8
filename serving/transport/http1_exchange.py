"""One request over HTTP/1.1 and the answer to it, as an ASGI app sees them."""

from __future__ import annotations

import asyncio
import http
import logging
from typing import Protocol

from serving.transport.http_engine import AsgiMessage

log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FEW_BYTES = 2**14  # are copied sooner than written by themselves
_WITHOUT_BODY = (204, 304)


def status_line(status: int) -> bytes:
    """As it begins an answer; without a phrase where nobody has named the status."""
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: status_line(status) for status in range(200, 600)}
_DEFECT = status_line(500) + (
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\nconnection: close\r\n"
    b"\r\nInternal Server Error"
)


class Line(Protocol):
    """What an exchange needs of its connection."""

    @property
    def date(self) -> bytes:
        """The header line that says when an answer began."""

    @property
    def closes(self) -> bool:
        """Whether the answer that begins now is to be the last."""

    async def drained(self) -> None:
        """Once the client has taken enough of what was written."""

    def write(self, data: bytes) -> None: ...

    def read_on(self) -> None:
        """Let more of the request come."""

    def answered(self, is_last: bool) -> None:
        """There is no more of the answer; the connection ends with it if it is the last."""


class Exchange:
    """Used on the event loop. The head of the answer waits for the first of its body, as ASGI has
    it, so that a small answer is written at once.
    """

    __slots__ = (
        "_awaits_continue",
        "_body",
        "_body_is_told",
        "_body_is_whole",
        "_has_body",
        "_head",
        "_is_chunked",
        "_left",
        "_line",
        "_news",
        "disconnected",
        "has_begun",
        "held_bytes",
        "is_answered",
        "is_last",
        "scope",
    )

    def __init__(
        self, line: Line, scope: AsgiMessage, *, is_last: bool, awaits_continue: bool
    ) -> None:
        self.scope = scope
        self.disconnected = False
        self.has_begun = False  # the answer: something of it is written
        self.is_answered = False
        self.held_bytes = 0  # of the body: not taken by the app yet
        self._line = line
        self.is_last = is_last  # on its connection
        self._awaits_continue = awaits_continue
        self._body: list[bytes] = []
        self._body_is_whole = False
        self._body_is_told = False
        self._news: asyncio.Event | None = None  # where the app has had to wait for some
        self._head: bytes | None = None
        self._has_body = True  # the answer
        self._is_chunked = False
        self._left: int | None = None  # bytes that the answer has still to bring

    def feed(self, part: bytes) -> None:
        """More of the body has come."""
        if not self.is_answered:
            self._body.append(part)
            self.held_bytes += len(part)
            self._tell_news()

    def end_body(self) -> None:
        """All of the body has come."""
        self._body_is_whole = True
        self._tell_news()

    def disconnect(self) -> None:
        """The client is gone: nothing comes and nothing goes any more."""
        self.disconnected = True
        self._awaits_continue = False
        self._tell_news()

    def ended(self, error: BaseException | None) -> None:
        """The app is done. What it has raised is logged and told to nobody else."""
        if isinstance(error, asyncio.CancelledError):
            self._give_up()  # the time that a stop leaves is over
        elif error:
            log.error("a request to %s failed", self.scope["path"], exc_info=error)
            self._give_up()
        elif not (self.is_answered or self.disconnected):
            log.error("the app has not answered all of a request to %s", self.scope["path"])
            self._give_up()

    async def receive(self) -> AsgiMessage:
        """ASGI's: the next part of the body, or once that was whole, that the client has gone."""
        if self._awaits_continue:
            self._awaits_continue = False
            self._line.write(_CONTINUE)
        while not (self.disconnected or self.is_answered):
            if (self._body or self._body_is_whole) and not self._body_is_told:
                return self._next_part()
            self._line.read_on()
            await self._some_news()
        return {"type": "http.disconnect"}

    async def send(self, message: AsgiMessage) -> None:
        """ASGI's. Raises RuntimeError for what cannot be sent now, or not as HTTP."""
        kind = message["type"]
        if kind == "http.response.body":
            await self._line.drained()
        if self.disconnected:
            return
        if kind == "http.response.start" and not self._has_head():
            self._awaits_continue = False
            self._head = self._head_of(message)
        elif kind == "http.response.body" and not self.is_answered and self._has_head():
            self._send_body(message.get("body", b""), bool(message.get("more_body")))
        else:
            raise RuntimeError(f"the app has sent an {kind} out of order")

    def _has_head(self) -> bool:
        return self.has_begun or self._head is not None

    def _next_part(self) -> AsgiMessage:
        parts, self._body, self.held_bytes = self._body, [], 0
        self._body_is_told = self._body_is_whole
        return {
            "type": "http.request",
            "body": parts[0] if len(parts) == 1 else b"".join(parts),
            "more_body": not self._body_is_whole,
        }

    async def _some_news(self) -> None:
        if self._news is None:
            self._news = asyncio.Event()
        self._news.clear()
        await self._news.wait()

    def _tell_news(self) -> None:
        if self._news is not None:
            self._news.set()

    def _head_of(self, message: AsgiMessage) -> bytes:
        status = message["status"]
        lines = [_STATUS_LINES.get(status) or status_line(status), self._line.date]
        for name, value in message.get("headers", ()):
            if name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding":
                self._is_chunked = True
            elif name == b"connection":
                self.is_last |= b"close" in value.lower()
                continue
            lines.append(b"%s: %s\r\n" % (name, value))
        self._has_body = not (status in _WITHOUT_BODY or self.scope["method"] == "HEAD")
        if self._has_body and self._left is None and not self._is_chunked:
            # The client sees the end by chunks, or else by that of the connection.
            self._is_chunked = self.scope["http_version"] != "1.0"
            self.is_last |= not self._is_chunked
            if self._is_chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
        self.is_last |= self._line.closes
        if self.is_last:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise RuntimeError("a header of the answer has a line break in it")
        return head + b"\r\n"

    def _send_body(self, part: bytes, has_more: bool) -> None:
        if not self._has_body:
            part = b""
        elif self._is_chunked:
            part = _chunk(part) if has_more else _chunk(part) + b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(part)
            if self._left < 0 or not (has_more or self._left == 0):
                raise RuntimeError("the answer is not as long as its content-length says")
        self._write(part)
        if not has_more:
            self._end()

    def _write(self, part: bytes) -> None:
        head, self._head = self._head, None
        self.has_begun = True
        if head is not None and len(part) <= _FEW_BYTES:
            self._line.write(head + part)
            return
        if head is not None:
            self._line.write(head)
        if part:
            self._line.write(part)

    def _give_up(self) -> None:
        if not (self.has_begun or self.disconnected):
            self.has_begun = True
            self._line.write(_DEFECT)
        self.is_last = True
        self._end()

    def _end(self) -> None:
        if not self.is_answered:
            self.is_answered = True
            self._body, self.held_bytes = [], 0
            self._tell_news()
            self._line.answered(self.is_last)


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(part), part) if part else b""
