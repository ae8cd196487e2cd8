"""What a client of HTTP/1.1 gets, byte by byte."""

from __future__ import annotations

import contextlib
import socket


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            got += part
    return got
