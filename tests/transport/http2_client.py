"""A client that breaks the rules of good behaviour: HTTP/2 frames, one by one."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame, PingFrame
from waiting import WAIT_SECONDS

_FRAME_HEAD_BYTES = 9


class RawClient:
    """One HTTP/2 connection, of which the test decides what is sent and when it is read."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        # What is sent may be wrong on purpose.
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        self.http2 = h2.connection.H2Connection(config)
        self.http2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.http2.data_to_send())

    def open(self, path: str, *more: tuple[str, str]) -> int:
        """Send the headers of a call; returns the stream."""
        stream = int(self.http2.get_next_available_stream_id())
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        self.http2.send_headers(stream, [*headers, *more])
        return stream

    def send(
        self, stream: int, message: bytes, *, end: bool = True, compressed: bool = False
    ) -> None:
        """Send one gRPC message, which fits the window; ``compressed`` says that it is."""
        framed = bytes([compressed]) + struct.pack(">I", len(message)) + message
        size = self.http2.max_outbound_frame_size
        pieces = [framed[start : start + size] for start in range(0, len(framed), size)]
        for piece in pieces[:-1]:
            self.http2.send_data(stream, piece)
        self.http2.send_data(stream, pieces[-1], end_stream=end)

    def events(self) -> Iterator[h2.events.Event]:
        """What the server sends, until it closes the connection. Windows are not opened."""
        while data := self.socket.recv(65536):
            yield from self.http2.receive_data(data)
            self.flush()

    def frames(self) -> Iterator[Frame]:
        """What the server sends, as it is, until it closes the connection; pings are answered.

        Unlike ``events`` it goes on after a GOAWAY. Use one or the other.
        """
        with self.socket.makefile("rb") as received:
            while head := received.read(_FRAME_HEAD_BYTES):
                frame, length = Frame.parse_frame_header(memoryview(head))
                frame.parse_body(memoryview(received.read(length)))
                if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                    answer = PingFrame(0, frame.opaque_data, flags=["ACK"])
                    self.socket.sendall(answer.serialize())
                yield frame

    def grpc_status(self, stream: int) -> str:
        """The status that a call ends with."""
        for event in self.events():
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, h2.events.StreamReset):
                return "reset"
            headers = dict(getattr(event, "headers", None) or ())
            if "grpc-status" in headers:
                return str(headers["grpc-status"])
        return "closed"

    def vanish(self) -> None:
        """Leave as a client does that is killed: without a word, unread data lost."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


@contextlib.contextmanager
def raw_client(port: int) -> Iterator[RawClient]:
    client = RawClient(port)
    try:
        yield client
    finally:
        client.socket.close()
