"""The answer to a request that the event loop waits for and any thread may give."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class PendingAnswer(Generic[T]):
    """Made and awaited on the event loop. An answer that comes at once costs no future."""

    __slots__ = ("_answer", "_loop", "_thread", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._answer: list[T] = []
        self._waiter: asyncio.Future[None] | None = None

    @property
    def given(self) -> bool:
        """Whether the answer is there already."""
        return bool(self._answer)

    @property
    def answer(self) -> T:
        """The answer that is there."""
        return self._answer[0]

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the event loop."""
        return threading.get_ident() == self._thread

    def give(self, answer: T) -> None:
        """End the wait. Called once, from any thread."""
        if self.is_here:
            self._give(answer)
        else:
            self.on_loop(lambda: self._give(answer))

    def on_loop(self, work: Callable[[], None]) -> None:
        """Do it on the event loop, soon; here, where the loop is closed and nobody waits."""
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:
            with suppress(asyncio.InvalidStateError):
                work()

    async def wait(self) -> T:
        """The answer, when it has come. Called once."""
        if not self._answer:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self.answer

    def _give(self, answer: T) -> None:
        self._answer.append(answer)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
