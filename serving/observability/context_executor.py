"""An executor whose work is for the call that submitted it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ContextExecutor(Executor):
    """Around another: work has the context variables of whoever submits it.

    That one keeps the executor, and shuts it down.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        context = copy_context()
        return self._executor.submit(lambda: context.run(fn, *args, **kwargs))
