"""Calls whose request has come in: handled one after the other, then answered one after the other.

A call goes through gRPC's code, ours and a runtime's. Together they are far larger than the caches
next to a processor: a call that goes through all of it alone pays for fetching it, which can cost
more than what the code does. Calls that are ready at the same time share that price when one step
is done for all of them before the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sized
from typing import Protocol

from serving.core.clock import Clock

_MOST = 64
_MOST_EVENTS = 4 * _MOST  # each call of a full backlog has brought three
_LONGEST_HOLD_SECONDS = 0.002  # after that no further call is handled before the answers are sent


class ReadyCall(Protocol):
    def handle(self) -> bool:
        """Call the handler; whether there is an answer to be sent now."""

    def answer(self) -> None:
        """Send the answer."""


class ReadyCalls:
    """A :class:`~serving.transport.polling_threads.Backlog` of calls. Thread-safe.

    ``open_calls`` are all that there are: once every one of them is ready, nobody has to look for
    more. Nor for ever, as clients can keep events coming that make no call ready.
    """

    def __init__(self, open_calls: Sized, clock: Clock) -> None:
        self._open = open_calls
        self._monotonic = clock.monotonic
        self._ready: deque[ReadyCall] = deque()
        self._answered: deque[ReadyCall] = deque()
        self._answer_by = 0.0
        self._events = 0  # dealt with while calls were ready; a lost count delays a look only

    def add(self, call: ReadyCall) -> None:
        self._ready.append(call)

    def __bool__(self) -> bool:
        return bool(self._ready or self._answered)

    def complete(self) -> bool:
        num_ready = len(self._ready)
        if not num_ready:
            self._events = 0
            return False
        self._events += 1
        return num_ready >= _MOST or num_ready >= len(self._open) or self._events >= _MOST_EVENTS

    def steps_left(self) -> int:
        return 2 * len(self._ready) + len(self._answered)

    def step(self) -> None:
        answered = self._answered
        calls = self._ready
        if answered and (not calls or self._monotonic() >= self._answer_by):
            calls = answered
        try:
            call = calls.popleft()
        except IndexError:  # another thread has taken the last one
            return
        if calls is answered:
            call.answer()
        elif call.handle():
            if not answered:
                self._answer_by = self._monotonic() + _LONGEST_HOLD_SECONDS
            answered.append(call)
