"""For how long a connection of HTTP/1.1 may be let wait by its client."""

from __future__ import annotations

import asyncio

from serving.transport.untaken_bytes import untaken_bytes

LOOKS = 4  # in the time that a client has: so it may have a quarter more


class Patience:
    """Looks from time to time, which costs a request nothing, unlike a timer of its own.

    A body must bring ``min_body_bytes`` in the time of so many looks; all else that a client has
    to do, it must have done by then.
    """

    __slots__ = (
        "_body_bytes",
        "_min_body_bytes",
        "_quiet_looks",
        "_untaken_bytes",
        "_untaken_looks",
    )

    def __init__(self, min_body_bytes: float) -> None:
        self._min_body_bytes = min_body_bytes
        self._body_bytes = 0  # since the body last had brought enough
        self._quiet_looks = 0  # since then, or since the head began
        self._untaken_looks = 0
        self._untaken_bytes = 0  # at the last look

    def begin_anew(self) -> None:
        """A head, or a body, begins."""
        self._quiet_looks = self._body_bytes = 0

    def brought(self, num_bytes: int) -> None:
        """So much of a body has come."""
        self._body_bytes += num_bytes
        if self._body_bytes >= self._min_body_bytes:
            self.begin_anew()

    def is_out(self, waits_for_client: bool) -> bool:
        """Look whether nobody but the client can go on; whether it has been so for too long."""
        self._quiet_looks = self._quiet_looks + 1 if waits_for_client else 0
        return self._quiet_looks > LOOKS

    def is_untaken(self, transport: asyncio.Transport, *, has_written: bool) -> bool:
        """Look at what waits for the client; whether it has taken nothing of it for too long.

        Where something was written since the last look, as much as then may be something else.
        """
        before, self._untaken_bytes = self._untaken_bytes, untaken_bytes(transport)
        is_stuck = 0 < before <= self._untaken_bytes and not has_written
        self._untaken_looks = self._untaken_looks + 1 if is_stuck else 0
        return self._untaken_looks > LOOKS
