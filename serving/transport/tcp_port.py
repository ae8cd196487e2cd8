"""TCP addresses to listen on: bound for one process, or shared by several."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

_LINGERING = (socket.SO_REUSEADDR,)
"""Lets an address be taken over whose former connections the system still remembers."""

_SHARED = (socket.SO_REUSEPORT,) if hasattr(socket, "SO_REUSEPORT") else ()
"""Where systems lack it, options refuse several workers."""


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to the address. Without ``host``: every address, IPv6 and IPv4.

    A ``shared`` address takes further shared sockets, of this user's processes, and each
    connection goes to one of those that listen. Raises OSError when the address can not be had.
    """
    return _bind(host, port, (*_LINGERING, *(_SHARED if shared else ())))


def reserve(host: str, port: int) -> socket.socket:
    """Keep an address for processes that share it, without listening; port 0 picks a free one.

    Raises OSError when another program listens there, also one that would share the address: each
    of the two would take half of the other's calls.
    """
    if port:
        bind(host, port).close()
    with bind(host, port, shared=True) as shared:
        # The first may come where connections linger, but would let others in while nobody
        # listens; the second would not, and may come where the first is.
        return _bind(host, shared.getsockname()[1], _SHARED)


def _bind(host: str, port: int, options: Sequence[int]) -> socket.socket:
    if host:
        return _bind_to(host, port, options)
    try:
        return _bind_to("::", port, options)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
        return _bind_to("0.0.0.0", port, options)  # a host without IPv6


def _bind_to(host: str, port: int, options: Sequence[int]) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
