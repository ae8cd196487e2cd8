"""Connections of HTTP/1.1 (RFC 9112), parsed by httptools."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import unquote

import httptools

from serving.transport import stalled_body
from serving.transport.http1_company import Company
from serving.transport.http1_exchange import Exchange, status_line
from serving.transport.http1_patience import LOOKS, Patience
from serving.transport.http_engine import AsgiApp, AsgiMessage
from serving.transport.untaken_bytes import untaken_bytes

log = logging.getLogger(__name__)

_IDLE_SECONDS = 75  # longer than proxies in front keep theirs: the one who closes first is safe
_CLOSING_SECONDS = 0.1  # after which a client that has taken all is not waited for
FLUSHING_SECONDS = 86_400  # over TLS; how long clients may take is decided here, not there
_MOST_HELD_BYTES = 2**16
_MANY_BODY_BYTES = 2**16  # that the app has not taken
_ASGI = {"version": "3.0", "spec_version": "2.3"}


def _refusal(status: int, text: bytes) -> bytes:
    return status_line(status) + (
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n"
        b"\r\n%s" % (len(text), text)
    )


_INVALID = _refusal(400, b"Invalid HTTP request received.")
_HEAD_TOO_LARGE = _refusal(431, b"")
_BODY_STALLED = _refusal(stalled_body.STATUS, stalled_body.MESSAGE)


@dataclass(slots=True)
class Service:
    """What the connections of one engine have in common.

    ``date`` is the header line of the moment. A ``receive_timeout_seconds`` of 0 lets clients take
    their time.
    """

    app: AsgiApp
    receive_timeout_seconds: float
    min_body_bytes: float
    date: bytes = b""
    is_finishing: bool = False
    connections: set[Connection] = field(default_factory=set)
    company: Company = field(default_factory=Company)


class Connection(asyncio.Protocol):
    """Has the app answer one request after the other. Used on the event loop.

    Upgrades (RFC 9110, 7.8) and trailers are ignored. httptools would keep all of a head, or of the
    trailers of a chunked body, however long: a limit ends both. Implements Line.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._patience = Patience(service.min_body_bytes)
        self._next_look: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._parser = _request_parser(self)
        self._has_begun = False  # a request, whose end has not come yet
        self._held_bytes = 0  # that came since the last of a body, at most: the parser may have all
        self._num_hosts = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._awaits_continue = False
        self._is_deaf = False  # what comes is not for this connection
        self._coming: Exchange | None = None  # whose body comes
        self._answering: Exchange | None = None
        self._pipeline: deque[Exchange] = deque()  # come, but not begun to be answered
        self._has_written = False  # since the last look
        self._read_is_paused = False
        self._writable: asyncio.Event | None = None  # while the client is behind

    @property
    def date(self) -> bytes:
        return self._service.date

    @property
    def closes(self) -> bool:
        return self._service.is_finishing and not self._pipeline

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # one that both reads and writes
        self._transport = transport
        self._scope_of_all = {
            "type": "http",
            "asgi": _ASGI,
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
            "root_path": "",
        }
        self._service.connections.add(self)
        self._look_later()
        if self._service.is_finishing:
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._service.connections.discard(self)
        for timer in (self._next_look, self._idle_timer):
            if timer is not None:
                timer.cancel()
        for exchange in (self._answering, self._coming):
            if exchange is not None:
                exchange.disconnect()
        self._answering = self._coming = None  # which refer to this connection
        self._pipeline.clear()
        self.resume_writing()
        del self._parser  # which refers to this connection

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._held_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            log.warning("%s has sent what is no HTTP/1.1: %s", self._scope_of_all["client"], error)
            self._refuse(_INVALID)
            return
        if self._held_bytes > _MOST_HELD_BYTES and not self._transport.is_closing():
            self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._has_begun = True
        self._patience.begin_anew()  # and not whenever a bit more of the head drips in

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._coming is None:  # else it is a trailer
            name = name.lower()
            if name == b"expect":
                self._awaits_continue = value.lower() == b"100-continue"
            elif name == b"host":
                self._num_hosts += 1
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            return  # it comes again
        if self._num_hosts > 1:  # a proxy in front may have read another one: RFC 9112, 3.2
            raise httptools.HttpParserError("several Host headers")
        scope = self._scope()
        is_old = scope["http_version"] == "1.0"
        is_last = is_old or not parser.should_keep_alive()
        awaits_continue = self._awaits_continue and not is_old
        exchange = Exchange(self, scope, is_last=is_last, awaits_continue=awaits_continue)
        self._url, self._headers, self._num_hosts, self._awaits_continue = b"", [], 0, False
        self._patience.begin_anew()
        self._coming = exchange
        if self._answering is None:
            self._answer(exchange)
        else:
            self._pipeline.append(exchange)
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        self._patience.brought(len(body))
        assert self._coming is not None
        self._coming.feed(body)
        if self._coming.held_bytes > _MANY_BODY_BYTES:
            self._pause_reading()

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        self._has_begun = False
        self._held_bytes = 0
        assert self._coming is not None
        self._coming.end_body()
        self._is_deaf = self._coming.is_last
        self._coming = None
        self._rest()

    async def drained(self) -> None:
        while self._writable is not None:
            await self._writable.wait()

    def write(self, data: bytes) -> None:
        self._has_written = True
        self._transport.write(data)

    def read_on(self) -> None:
        if self._read_is_paused and not self._pipeline:
            self._read_is_paused = False
            self._transport.resume_reading()

    def answered(self, is_last: bool) -> None:
        self._answering = None
        if is_last:
            self.close()
        elif self._pipeline:
            self._answer(self._pipeline.popleft())
        else:
            self._rest()
        self.read_on()

    def finish(self) -> None:
        """Answer what has come, or begun to, and end: the service is finishing."""
        if self._is_idle():
            self.close()

    def close(self) -> None:
        """End as soon as what is written has been sent."""
        self._transport.close()
        if self._scope_of_all["scheme"] == "https":
            self._loop.call_later(_CLOSING_SECONDS, self._end_closing)

    def _end_closing(self) -> None:
        """TLS would wait for its client to close as well, which those with a pool never do."""
        if self not in self._service.connections:
            return
        if untaken_bytes(self._transport):
            self._loop.call_later(_CLOSING_SECONDS, self._end_closing)
        else:
            self._transport.abort()

    def _parse(self, data: bytes) -> None:
        """Raises HttpParserError for what is no HTTP, and for CONNECT: this is no proxy."""
        rest = memoryview(data)
        while rest:
            try:
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                (end,) = upgrade.args
            if self._parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("CONNECT")
            head, rest = self._head_without_upgrade(), rest[end:]
            self._parser = _request_parser(self)  # the other one may take this for the last request
            self._parser.feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        """The head that has just been parsed, as of a request that stays with HTTP/1.1."""
        version = self._parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self._parser.get_method(), self._url, version)]
        lines += [b"%s: %s" % header for header in self._headers if header[0] != b"upgrade"]
        self._url, self._headers, self._num_hosts = b"", [], 0
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _scope(self) -> AsgiMessage:
        """ASGI's, of the head that has just been parsed. Raises ValueError for a bad target."""
        url = self._url
        if url.startswith(b"/") and b"#" not in url:
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path or b"/", parsed.query or b""
        path = raw_path.decode("ascii")
        return {
            **self._scope_of_all,
            "http_version": self._parser.get_http_version(),
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
        }

    def _answer(self, exchange: Exchange) -> None:
        self._answering = exchange
        service = self._service
        work = service.app(exchange.scope, exchange.receive, exchange.send)
        service.company.join(work, exchange.ended)

    def _pause_reading(self) -> None:
        if not self._read_is_paused:
            self._read_is_paused = True
            self._transport.pause_reading()

    def _is_idle(self) -> bool:
        return self._answering is None and not self._has_begun

    def _rest(self) -> None:
        """Wait for the next request, if there is nothing else to do and another may come."""
        if not self._is_idle() or self._transport.is_closing():
            return
        if self._service.is_finishing:
            self.close()
            return
        self._idle_since = self._loop.time()
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_later(_IDLE_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        """End the connection, or look again when its time may be over."""
        self._idle_timer = None
        if not self._is_idle():
            return  # and once it is, it has a timer
        seconds = self._idle_since + _IDLE_SECONDS - self._loop.time()
        if seconds > 0:
            self._idle_timer = self._loop.call_later(seconds, self._end_idle)
        else:
            self.close()

    def _look_later(self) -> None:
        if seconds := self._service.receive_timeout_seconds:
            self._next_look = self._loop.call_later(seconds / LOOKS, self._look)

    def _look(self) -> None:
        """End the connection where the client has let it wait for too long."""
        self._look_later()
        has_written, self._has_written = self._has_written, False
        if self._patience.is_untaken(self._transport, has_written=has_written):
            self._transport.abort()  # to close it would be to wait until all has been taken
        elif self._patience.is_out(self._waits_for_client()) and not self._transport.is_closing():
            if self._coming is not None:
                self._refuse(_BODY_STALLED)
            self.close()

    def _waits_for_client(self) -> bool:
        """Whether nobody but the client can go on: not where it is being answered or held up."""
        if self._pipeline:
            return False  # requests before the one that comes are being answered
        if self._coming is not None:
            return not self._read_is_paused
        has_served = self._idle_timer is not None  # which is patient with a client that is idle
        return self._answering is None and (self._has_begun or not has_served)

    def _refuse(self, answer: bytes) -> None:
        """End the connection, with the answer to what comes in now if it is for nothing else."""
        if self._coming is None:
            may_answer = self._answering is None
        else:
            may_answer = not (self._pipeline or self._coming.has_begun)
            self._coming.disconnect()
        if may_answer:
            self._transport.write(answer)
        self.close()


def _address(name: tuple[str, int] | tuple[str, int, int, int] | str | None) -> object:
    """As ASGI has it: host and port."""
    return name[:2] if isinstance(name, tuple) else None


def _request_parser(connection: Connection) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(connection)
    # What follows the last request of a connection is ignored and keeps nobody from its answer.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
