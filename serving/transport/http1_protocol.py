"""HTTP/1.1 connections of uvicorn and httptools, with what these leave to whoever uses them."""

from __future__ import annotations

import asyncio
import sys

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.transport import stalled_body

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

_MOST_HELD_BYTES = 2**20
_INVALID = "Invalid HTTP request received."
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_BODY_STALLED = (
    b"HTTP/1.1 %d Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s"
) % (stalled_body.STATUS, len(stalled_body.MESSAGE), stalled_body.MESSAGE)
_LOOKS = 4  # in the time that a client has: so it may have a quarter more


class Http1Config(uvicorn.Config):
    """With how long heads may take and answers may stay untaken (0: any time), and how much a body
    must bring in such a time.
    """

    receive_timeout_seconds: float = 0
    min_body_bytes: float = 1


class Http1Protocol(HttpToolsProtocol):
    """Ignores upgrades (RFC 9110, 7.8) and trailers, and ends a head that does not end.

    httptools would keep all of a head, or of the trailers of a chunked body, however long; and it
    takes the body of a request that asks for an upgrade for something else than HTTP. uvicorn would
    wait for any time for the rest of a request, and for a client to take its answer.
    """

    config: Http1Config

    _is_in_head = True
    _held_bytes = 0  # that came since the last of a body, at most: what the parser may have kept
    _body_bytes = 0  # since the body last had brought enough
    _quiet_looks = 0  # since then, or since the head began
    _untaken_looks = 0
    _untaken_bytes = 0  # at the last look
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as there
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._is_in_head and not self._held_bytes:  # what drips does not begin anew
            self._quiet_looks = 0
        self._held_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.logger.warning(_INVALID)
            if self._may_be_refused():
                self.send_400_response(_INVALID)
            self.transport.close()
            return
        if self._held_bytes > _MOST_HELD_BYTES and not self.transport.is_closing():
            if self._may_be_refused():
                self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def _parse(self, data: bytes) -> None:
        """Raises HttpParserError for what is no HTTP, and for CONNECT: this is no proxy."""
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                (end,) = upgrade.args
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError
            head, rest = self._head_without_upgrade(), rest[end:]
            self.parser = _request_parser(self)  # the other one may take this for the last request
            self.parser.feed_data(head)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # it comes again
        self._is_in_head = False
        self._quiet_looks = self._body_bytes = 0
        super().on_headers_complete()
        self.headers = []  # for trailers: the app has the one that was there

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes >= self.config.min_body_bytes:
            self._quiet_looks = self._body_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._is_in_head = True
        self._held_bytes = 0
        super().on_message_complete()

    def _look_later(self) -> None:
        if seconds := self.config.receive_timeout_seconds:
            self._next_look = self.loop.call_later(seconds / _LOOKS, self._look)

    def _look(self) -> None:
        """End the connection where the client has let it wait for too long.

        Looking from time to time costs a request nothing, unlike a timer of its own.
        """
        self._look_later()
        if self._is_untaken():
            self.transport.abort()  # to close it would be to wait until all has been taken
            return
        self._quiet_looks = self._quiet_looks + 1 if self._waits_for_client() else 0
        if self._quiet_looks <= _LOOKS or self.transport.is_closing():
            return
        if not (self._is_in_head or self.cycle.response_started):
            self.transport.write(_BODY_STALLED)
        self.transport.close()

    def _is_untaken(self) -> bool:
        """Whether the client has taken nothing of what waits for it at the last looks."""
        before, self._untaken_bytes = self._untaken_bytes, _untaken_bytes(self.transport)
        is_stuck = self._untaken_bytes > 0 and self._untaken_bytes >= before
        self._untaken_looks = self._untaken_looks + 1 if is_stuck else 0
        return self._untaken_looks > _LOOKS

    def _may_be_refused(self) -> bool:
        """Whether what is written now is the answer to what comes in now, and to nothing else."""
        if self._is_in_head:
            return self.cycle is None or self.cycle.response_complete
        return not (self.pipeline or self.cycle.response_started)

    def _waits_for_client(self) -> bool:
        """Whether nobody but the client can go on: not where it is being answered or held up."""
        if self.pipeline:
            return False  # requests before this one are being answered
        if not self._is_in_head:
            return not self.flow.read_paused
        is_idle = self.timeout_keep_alive_task is not None  # and closed by uvicorn
        return not is_idle and (self.cycle is None or self.cycle.response_complete)

    def _head_without_upgrade(self) -> bytes:
        """The head that has just been parsed, as of a request that stays with HTTP/1.1."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _request_parser(protocol: Http1Protocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's first one
    return parser


def _untaken_bytes(transport: asyncio.Transport) -> int:
    """How much of what was written the client has not acknowledged.

    The operating system takes more only in large pieces, which a slow client needs long for: what
    it holds counts as well, where it says so.
    """
    num_bytes = transport.get_write_buffer_size()
    if sys.platform == "linux":
        held = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        num_bytes += int.from_bytes(held, sys.byteorder)
    return num_bytes
