"""The client of an HTTP request, who may go away while the answer is being made."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import Receive

from serving.core.cancellation import Cancellation


class WaitingClient(Cancellation):
    """Cancelled when the client disconnects between :meth:`watch` and :meth:`answered`.

    Made on the event loop. An ASGI server tells of the end of a connection only to who asks, and
    asking costs a task: it is begun for requests that are not answered at once.
    """

    __slots__ = ("_is_answered", "_loop", "_receive", "_watch")

    def __init__(self, receive: Receive) -> None:
        """``receive`` is that of the request, whose body has been received."""
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None
        self._is_answered = False

    def watch(self) -> None:
        """Look from now on whether the client is there. Called once, from any thread."""
        with suppress(RuntimeError):  # the server has stopped, and the loop is closed
            self._loop.call_soon_threadsafe(self._begin)

    def answered(self) -> None:
        """Look no longer. Called once, on the event loop."""
        self._is_answered = True
        if self._watch is not None:
            self._watch.cancel()

    def _begin(self) -> None:
        if not self._is_answered:
            self._watch = self._loop.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.cancel()
