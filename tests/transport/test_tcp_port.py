"""Addresses that several processes share, and that no other program does."""

from __future__ import annotations

import socket

import pytest
from waiting import WAIT_SECONDS

from serving.transport import tcp_port


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS).close()
    except OSError:
        return False
    return True


def test_a_reserved_port_is_kept_while_those_who_listen_come_and_go() -> None:
    with tcp_port.reserve("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
        for _ in range(2):
            with tcp_port.bind("127.0.0.1", port, shared=True) as listener:
                listener.listen()
                assert accepts(port)
            assert not accepts(port)
            with pytest.raises(OSError, match="in use"):
                tcp_port.bind("127.0.0.1", port)


def test_connections_reach_everybody_who_shares_the_port() -> None:
    with (
        tcp_port.reserve("", 0) as reserved,
        tcp_port.bind("", reserved.getsockname()[1], shared=True) as first,
        tcp_port.bind("", reserved.getsockname()[1], shared=True) as second,
    ):
        for listener in (first, second):
            listener.listen(128)
            listener.setblocking(False)
        for _ in range(64):
            assert accepts(reserved.getsockname()[1])
        for listener in (first, second):
            listener.accept()[0].close()


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_on_which_another_program_listens_is_not_reserved(shared: bool) -> None:
    with tcp_port.bind("127.0.0.1", 0, shared=shared) as other:
        other.listen()
        with pytest.raises(OSError, match="in use"):
            tcp_port.reserve("127.0.0.1", other.getsockname()[1])


def test_connections_that_linger_from_another_program_are_no_hindrance() -> None:
    with tcp_port.bind("127.0.0.1", 0) as other:
        other.listen()
        port = other.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            other.accept()[0].close()  # whoever closes first is who remembers
            assert client.recv(1) == b""
    with tcp_port.reserve("127.0.0.1", port) as reserved:
        assert reserved.getsockname()[1] == port
