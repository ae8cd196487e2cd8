"""How much of what was sent a client has not taken yet."""

from __future__ import annotations

import asyncio
import sys

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ


def untaken_bytes(transport: asyncio.WriteTransport) -> int:
    """How much of what was written to an open connection its client has not acknowledged.

    The operating system takes more only in large pieces, which a slow client needs long for: what
    it holds counts as well, where it says so.
    """
    num_bytes = transport.get_write_buffer_size()
    if sys.platform == "linux":
        held = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        num_bytes += int.from_bytes(held, sys.byteorder)
    return num_bytes
