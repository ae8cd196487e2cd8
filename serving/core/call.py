"""One unary call as an API sees it: request bytes in, a callback out, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from serving.core.errors import ServingError


class CallContext(NamedTuple):
    """What the transport knows of a call. ``deadline`` is a point in monotonic seconds, or None."""

    deadline: float | None = None
    metadata: Sequence[tuple[str, str | bytes]] = ()


Reply = Callable[[bytes | ServingError], None]
"""Ends a call with the response bytes or an error: exactly once, from any thread."""

UnaryHandler = Callable[[bytes, CallContext, Reply], None]
"""Answers one call. May raise instead of replying, but never after having replied."""
