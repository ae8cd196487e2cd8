"""The machine's clock, where Python's own waits would fail."""

from __future__ import annotations

import threading

import pytest

from serving.core.clock import SystemClock


class Passing(threading.Event):
    """Nobody waits for it, but the time that it is waited for must be one that Python takes."""

    def wait(self, timeout: float | None = None) -> bool:
        return threading.Lock().acquire(timeout=-1 if timeout is None else timeout)


@pytest.mark.parametrize("seconds", [None, 0.0, 1.0, threading.TIMEOUT_MAX, 1e13, float("inf")])
def test_any_time_can_be_waited_for(seconds: float | None):
    """A timeout in microseconds may be 300,000 years, and a thread that fails is gone."""
    assert SystemClock().wait(Passing(), seconds)
