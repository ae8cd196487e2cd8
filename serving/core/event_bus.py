"""Announcements inside the process: publish to whoever subscribed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

E = TypeVar("E")


class Subscription:
    """Ends a subscription, by :meth:`cancel` or by leaving the ``with`` block."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()


class EventBus(Generic[E]):
    """Delivers each event to every subscriber, in order, on the publisher's thread.

    One event at a time: all subscribers see the same order. A callback must be quick and must
    neither publish nor subscribe on the same bus; one that raises is logged, and keeps the event
    from nobody else. After ``cancel`` returns, the callback is not called again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[object, Callable[[E], None]] = {}

    def subscribe(self, callback: Callable[[E], None]) -> Subscription:
        """Call ``callback`` with every event published from now on."""
        key = object()

        def cancel() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        with self._lock:
            self._callbacks[key] = callback
        return Subscription(cancel)

    def publish(self, event: E) -> None:
        """Deliver the event; returns when every subscriber has seen it."""
        with self._lock:
            for callback in self._callbacks.values():
                try:
                    callback(event)
                except Exception:
                    log.exception("a subscriber failed on %s", event)
