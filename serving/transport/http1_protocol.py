"""HTTP/1.1 connections of uvicorn and httptools, with what these leave to whoever uses them."""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_HELD_BYTES = 2**20
_INVALID = "Invalid HTTP request received."
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class Http1Protocol(HttpToolsProtocol):
    """Ignores upgrades (RFC 9110, 7.8) and trailers, and ends a head that does not end.

    httptools would keep all of a head, or of the trailers of a chunked body, however long; and it
    takes the body of a request that asks for an upgrade for something else than HTTP.
    """

    _is_in_head = True
    _held_bytes = 0  # that came since the last of a body, at most: what the parser may have kept

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._held_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.logger.warning(_INVALID)
            self.send_400_response(_INVALID)
            return
        if self._held_bytes > _MOST_HELD_BYTES and not self.transport.is_closing():
            if self._is_in_head or not self.cycle.response_started:
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
        super().on_headers_complete()
        self.headers = []  # for trailers: the app has the one that was there

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._is_in_head = True
        self._held_bytes = 0
        super().on_message_complete()

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
