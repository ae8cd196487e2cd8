"""The asynchronous clients as if they were not, so that one test tells what all clients do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self


class Blocking:
    """Makes a client in an event loop of its own, and runs its coroutines there to their ends."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._runner = asyncio.Runner()

        async def made() -> Any:
            return make()

        self._client = self._runner.run(made())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            return self._runner.run(method(*arguments, **keywords))

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._runner:
            self._runner.run(self._client.close())
