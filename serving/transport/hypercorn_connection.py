"""A connection on hypercorn, with what that leaves to whoever uses it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.http_stream import HTTPStream

from serving.transport.http_engine import AsgiApp, AsgiMessage, AsgiReceive, AsgiSend
from serving.transport.untaken_bytes import untaken_bytes

_LOOKS = 4  # in the time that a client has: so it may have a quarter more


class HypercornConnection(TCPServer):
    """HTTP/2 or HTTP/1.1, as its client begins. It is served by ``await``.

    ``timeout_seconds`` (0: any time) is how long a client may take nothing of an answer, and how
    long it may go on with a body after its answer. Left alone, hypercorn would wait for ever in
    both cases, and end a connection whose client sends more to a stream that has ended.
    """

    def __init__(
        self,
        app: AsgiApp,
        config: Config,
        context: WorkerContext,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        timeout_seconds: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            self._call,  # type: ignore[arg-type]  # its messages are dicts
            loop,
            config,
            context,
            {},
            *streams,
        )
        self._http_app = app
        self._timeout_seconds = timeout_seconds
        self._num_sent = 0
        self._last_look = (0, 0)  # what was untaken, and how often something had been sent
        self._untaken_looks = 0
        self._streams_looks: dict[int, tuple[int, int]] = {}  # what was untaken, and how long
        self._resets: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the connection has ended."""
        looking = self.loop.create_task(self._look_on()) if self._timeout_seconds else None
        try:
            await super().run()
        finally:
            if looking is not None:
                looking.cancel()

    async def protocol_send(self, event: Event) -> None:
        await super().protocol_send(event)
        self._num_sent += isinstance(event, RawData)

    async def end_early(self, scope: AsgiMessage) -> None:
        """Send the rest of an answer over HTTP/2, and that no more of its request is wanted.

        That is how RFC 9113, 8.1, has servers do it.
        """
        protocol = self._http2()
        stream_id = _stream_id(protocol, scope)
        if protocol is None or stream_id is None:  # the client has ended it
            return
        if buffer := protocol.stream_buffers.get(stream_id):
            await protocol._window_updated(stream_id)  # noqa: SLF001 - so hypercorn is told to go on
            await buffer.drain()
        with suppress(ProtocolError):
            protocol.connection.end_stream(stream_id)
        await _reset(protocol, stream_id, ErrorCodes.NO_ERROR)

    async def _call(
        self, scope: Any, receive: AsgiReceive, send: AsgiSend, *_threads: object
    ) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif protocol := self._http2():
            protocol.streams = _Streams.of(protocol.streams)
            exchange = _Http2Exchange(self, scope, receive, send, self._timeout_seconds)
            await self._http_app(scope, exchange.receive, exchange.send)
            if (
                exchange.is_unanswered
            ):  # after a reset hypercorn never takes the connection for idle
                await self.protocol_send(Updated(idle=protocol.idle))
        else:
            await self._http_app(scope, receive, send)

    async def _read_data(self) -> None:
        await super()._read_data()
        if protocol := self._http2():  # nobody else tells those that wait for room
            for buffer in protocol.stream_buffers.values():
                await buffer.close()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(self._timeout_seconds / _LOOKS)
            self._look()

    def _look(self) -> None:
        """Cut off what the client has let wait for too long."""
        if self._is_untaken():
            self.writer.transport.abort()  # to close it would be to wait until all has been taken
        elif protocol := self._http2():
            for stream_id in self._untaken_streams(protocol):
                reset = self.loop.create_task(_reset(protocol, stream_id, ErrorCodes.CANCEL))
                self._resets.add(reset)
                reset.add_done_callback(self._resets.discard)

    def _is_untaken(self) -> bool:
        """Whether the client has taken nothing of what waits for it at the last looks."""
        before, num_sent = self._last_look
        try:
            num_bytes = untaken_bytes(self.writer.transport)
        except (OSError, ValueError):  # it is closed already, and only the app goes on
            return False
        is_stuck = 0 < num_bytes >= before and self._num_sent == num_sent
        self._last_look = num_bytes, self._num_sent
        self._untaken_looks = self._untaken_looks + 1 if is_stuck else 0
        return self._untaken_looks > _LOOKS

    def _untaken_streams(self, protocol: H2Protocol) -> list[int]:
        """Those whose clients have asked for nothing more of what waits for it at the last looks.

        Over HTTP/2 clients say how much they take, of each stream and of all.
        """
        looks = {}
        for stream_id, buffer in protocol.stream_buffers.items():
            num_bytes = len(buffer.buffer)
            before, num_looks = self._streams_looks.get(stream_id, (0, 0))
            is_stuck = 0 < num_bytes >= before and _is_held_up(protocol, stream_id)
            looks[stream_id] = num_bytes, num_looks + 1 if is_stuck else 0
        self._streams_looks = looks
        return [stream_id for stream_id, (_, num_looks) in looks.items() if num_looks > _LOOKS]

    def _http2(self) -> H2Protocol | None:
        protocol = self.protocol.protocol
        return protocol if isinstance(protocol, H2Protocol) else None


class _Http2Exchange:
    """The two directions of one request, whose answer is sent at once but ends after the request.

    Not every client that still sends its body takes an answer that has ended for one.
    """

    def __init__(
        self,
        connection: HypercornConnection,
        scope: AsgiMessage,
        receive: AsgiReceive,
        send: AsgiSend,
        timeout_seconds: float,
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._receive = receive
        self._send = send
        self._timeout_seconds = timeout_seconds
        self._has_more = self.is_unanswered = True

    async def receive(self) -> AsgiMessage:
        message = await self._receive()
        self._has_more = bool(message.get("more_body"))
        return message

    async def send(self, message: AsgiMessage) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        self.is_unanswered = not is_last
        if not (is_last and self._has_more):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_seconds or None):
                await self._receive_the_rest()
        if not self._has_more:
            await self._send({"type": "http.response.body", "body": b""})
            return
        async with asyncio.TaskGroup() as both:  # what has come must not be in the way of the end
            both.create_task(self._connection.end_early(self._scope))
            both.create_task(self._receive_the_rest())

    async def _receive_the_rest(self) -> None:
        while self._has_more:
            await self.receive()


class _Ended:
    """Takes what comes for a stream that has ended, and was on its way then."""

    idle = True

    async def handle(self, event: object) -> None:
        """Do nothing."""


class _Streams(dict[int, Any]):
    """Streams by their ids; those that are not there have ended."""

    @classmethod
    def of(cls, streams: dict[int, Any]) -> _Streams:
        return streams if isinstance(streams, cls) else cls(streams)

    def __missing__(self, stream_id: int) -> _Ended:
        return _Ended()


def _stream_id(protocol: H2Protocol | None, scope: AsgiMessage) -> int | None:
    streams = protocol.streams if protocol else {}
    for stream_id, stream in streams.items():
        if isinstance(stream, HTTPStream) and stream.scope is scope:
            return stream_id
    return None


def _is_held_up(protocol: H2Protocol, stream_id: int) -> bool:
    try:
        return protocol.connection.local_flow_control_window(stream_id) <= 0
    except ProtocolError:  # it has ended
        return False


async def _reset(protocol: H2Protocol, stream_id: int, code: ErrorCodes) -> None:
    with suppress(ProtocolError):  # it has ended
        protocol.connection.reset_stream(stream_id, code)
    if buffer := protocol.stream_buffers.get(stream_id):
        await buffer.close()
    await protocol._window_updated(stream_id)  # noqa: SLF001 - as hypercorn does for resets of clients
    await protocol.stream_send(StreamClosed(stream_id))
    await protocol._flush()  # noqa: SLF001 - there is no other way
