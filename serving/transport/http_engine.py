"""What carries HTTP requests to an ASGI app."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Protocol

AsgiMessage = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[AsgiMessage]]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[AsgiMessage, AsgiReceive, AsgiSend], Coroutine[Any, Any, None]]
"""Begun outside of any task: ``asyncio.current_task()`` is None until it has waited for something.

Where it gives way, as ``asyncio.sleep(0)`` does, other requests come as far.
"""


class HttpEngine(Protocol):
    """Serves one app once."""

    @property
    def started(self) -> bool:
        """Whether it has begun to serve."""

    async def serve(self, listener: socket.socket, ready: Callable[[], object]) -> None:
        """Serve what connects to ``listener``, which listens already, until it is stopped.

        ``ready`` is called once connections are accepted.
        """

    def stop(self, grace_seconds: float) -> None:
        """Begin to stop: accept no more, and cancel what is not answered after the grace.

        Called from any thread; a second call ends the grace.
        """
