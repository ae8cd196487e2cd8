"""Whether whoever asked for some work still wants it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

Callback = Callable[[], None]

# One for all of them, as it is held for a few instructions: one each would cost every call more.
_lock = threading.Lock()


class Cancellation:
    """Tells those who work on something that nobody waits for it any more. Thread-safe.

    It may come at any time, also while the work is being done or has just ended. Whoever waits for
    it does so with :meth:`when_cancelled`, and lets go with :meth:`forget` once the work is done:
    until then the callback, and what that refers to, is kept.
    """

    __slots__ = ("_callbacks",)

    # Absent until somebody waits for it, so that a call costs nothing more; None once cancelled.
    _callbacks: tuple[Callback, ...] | None

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return getattr(self, "_callbacks", ()) is None  # asked several times in many calls

    def cancel(self) -> None:
        """Call everyone who waits for it, in their order. What comes after the first is no news."""
        with _lock:
            callbacks, self._callbacks = self._waiting(), None
        for callback in callbacks or ():
            _call(callback)

    def when_cancelled(self, callback: Callback) -> None:
        """Call ``callback`` once, on the thread that cancels; here and now if that has happened.

        It must be quick: the thread may be one that carries every call. What it raises is logged.
        """
        with _lock:
            callbacks = self._waiting()
            if callbacks is not None:
                self._callbacks = (*callbacks, callback)
                return
        _call(callback)

    def forget(self, callback: Callback) -> None:
        """Wait for it no longer; no effect where nobody does.

        Another thread that is cancelling at this moment may call it still.
        """
        with _lock:
            callbacks = self._waiting()
            if callbacks == (callback,):
                self._callbacks = ()
            elif callbacks:
                self._callbacks = tuple(kept for kept in callbacks if kept != callback)

    def _waiting(self) -> tuple[Callback, ...] | None:
        return getattr(self, "_callbacks", ())


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:
        log.exception("what was to happen on a cancellation failed")
