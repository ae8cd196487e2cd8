"""Lists base paths one after another, and goes past those that do not answer."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.core.clock import Clock
from serving.sources.storage import without_secrets

log = logging.getLogger(__name__)

SECONDS_TO_ANSWER = 2.0
"""After this time a base path counts as silent, and the others are listed without it."""

T = TypeVar("T")


@dataclass(slots=True)
class _Listing:
    """One base path that is being listed, since ``begun`` on the clock."""

    base_path: str
    begun: float
    is_silent: bool = False
    has_answered: bool = False


@dataclass(slots=True)
class _Round:
    """The base paths that nobody has begun with, and the listings that may still be in time.

    ``stirred`` is set when a thread finds nothing left to do.
    """

    left: deque[str]
    in_time: dict[str, _Listing] = field(default_factory=dict)
    num_threads: int = 0
    num_silent: int = 0
    stirred: threading.Event = field(default_factory=threading.Event)

    @property
    def goes_on(self) -> bool:
        return bool(self.left or self.in_time)


class Lister(Generic[T]):
    """Lists many base paths in rounds, one round at a time, of which none waits for what hangs.

    One thread makes the listings of a round while all answer in time. A listing that does not
    keeps its thread until it answers, however late, and is not begun again before; others take
    over, as many as are silent, so that a thousand base paths of one dead store are passed within
    seconds. There are never more threads than base paths, and they are daemonic: what hangs keeps
    no process from ending.
    """

    def __init__(
        self,
        make_listing: Callable[[str], T],
        answered: Callable[[str, T, bool], None],
        silent: Callable[[str], None],
        clock: Clock,
    ) -> None:
        """``make_listing`` may hang but not raise, and is called without a lock.

        ``answered`` hears the base path, the listing and whether it is late, on the thread that
        made it; it must not list. ``silent`` hears in each round of a base path that does not
        answer, never after ``answered`` has heard of it; it must be quick.
        """
        self._make_listing = make_listing
        self._answered = answered
        self._silent = silent
        self._clock = clock
        self._lock = threading.Lock()
        self._heard = threading.Condition(self._lock)
        self._going: dict[str, _Listing] = {}

    def list_all(self, base_paths: Collection[str]) -> None:
        """List each that is not being listed; returns when each has answered or is silent.

        What has answered late is listed again as soon as that answer has been heard: it may be
        older than what the caller wants to see.
        """
        with self._lock:
            self._heard.wait_for(lambda: not any(self._is_being_heard(path) for path in base_paths))
            for base_path in base_paths:
                if base_path in self._going:
                    self._silent(base_path)
            round_ = _Round(deque(path for path in base_paths if path not in self._going))
        while round_.goes_on:
            self._add_threads(round_)
            self._clock.wait(round_.stirred, self._seconds_to_wait(round_))
            round_.stirred.clear()
            self._note_silence(round_)

    def _is_being_heard(self, base_path: str) -> bool:
        listing = self._going.get(base_path)
        return listing is not None and listing.has_answered

    def _add_threads(self, round_: _Round) -> None:
        with self._lock:
            wanted = min(len(round_.left), max(1, round_.num_silent))
            missing = max(0, wanted - round_.num_threads)
            round_.num_threads += missing
        for _ in range(missing):
            threading.Thread(target=self._work, args=(round_,), name="lister", daemon=True).start()

    def _seconds_to_wait(self, round_: _Round) -> float:
        with self._lock:
            begun = min((listing.begun for listing in round_.in_time.values()), default=None)
        now = self._clock.monotonic()
        return max(0.0, (now if begun is None else begun) + SECONDS_TO_ANSWER - now)

    def _note_silence(self, round_: _Round) -> None:
        with self._lock:
            latest = self._clock.monotonic() - SECONDS_TO_ANSWER
            for listing in list(round_.in_time.values()):
                if listing.begun <= latest and not listing.has_answered:
                    listing.is_silent = True
                    del round_.in_time[listing.base_path]
                    round_.num_threads -= 1
                    round_.num_silent += 1
                    self._silent(listing.base_path)

    def _work(self, round_: _Round) -> None:
        listing = self._next(round_, None)
        while listing:
            result = self._make_listing(listing.base_path)
            with self._lock:
                listing.has_answered = True
            try:
                self._answered(listing.base_path, result, listing.is_silent)
            except Exception:
                where = without_secrets(listing.base_path)
                log.exception("what base path %s holds was not taken", where)
            listing = self._next(round_, listing)

    def _next(self, round_: _Round, done: _Listing | None) -> _Listing | None:
        """Begin another listing after the one that is done; None where this thread ends."""
        with self._lock:
            if done:
                del self._going[done.base_path]
                self._heard.notify_all()
                if done.is_silent:
                    return None
                del round_.in_time[done.base_path]
            if not round_.left:
                round_.num_threads -= 1
                round_.stirred.set()
                return None
            begun = _Listing(round_.left.popleft(), self._clock.monotonic())
            self._going[begun.base_path] = round_.in_time[begun.base_path] = begun
            return begun
