"""The client of an HTTP request, who may go away while the answer is being made."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from serving.core.cancellation import Cancellation


class WaitingClient(Cancellation):
    """Cancelled when the client disconnects between :meth:`watch` and :meth:`answered`.

    Used on the event loop. An ASGI server tells of the end of a connection only to who asks, and
    asking costs a task: it is begun for requests that are not answered at once.
    """

    __slots__ = ("_receive", "_watch")

    def __init__(self, receive: Receive) -> None:
        """``receive`` is that of the request, whose body has been received."""
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Look from now on whether the client is there. Called once."""
        self._watch = asyncio.get_running_loop().create_task(self._wait())

    def answered(self) -> None:
        """Look no longer. Called once, whether or not it was watched."""
        if self._watch is not None:
            self._watch.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.cancel()
