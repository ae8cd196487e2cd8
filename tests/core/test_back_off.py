"""How long a process that ended stays away."""

from __future__ import annotations

from serving.core.back_off import BackOff
from serving.testing import FakeClock


def ends(clock: FakeClock, back_off: BackOff, after_seconds: float) -> float:
    back_off.started()
    clock.advance(after_seconds)
    return back_off.ended()


def test_each_end_in_a_row_is_waited_for_twice_as_long_up_to_half_a_minute() -> None:
    clock = FakeClock()
    back_off = BackOff(clock)
    waited = [ends(clock, back_off, 1) for _ in range(9)]
    assert waited == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_process_that_ran_for_a_minute_begins_anew() -> None:
    clock = FakeClock()
    back_off = BackOff(clock)
    assert [ends(clock, back_off, seconds) for seconds in (1, 1, 59.9, 60)] == [0.5, 1, 2, 0.5]
