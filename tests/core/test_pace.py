"""What counts as quick."""

import pytest

from serving.core.pace import Pace

QUICK = 0.0005
BETWEEN = 0.005
SLOW = 0.05


def paced(*runs):
    pace = Pace()
    for seconds in runs:
        pace.learn(seconds)
    return pace


def test_it_takes_sixteen_quick_runs():
    assert not paced(*[QUICK] * 15).quick
    assert paced(*[QUICK] * 16).quick


@pytest.mark.parametrize("other", [BETWEEN, SLOW])
def test_runs_that_are_not_quick_delay_it_only(other):
    """On a busy machine every run may have to wait now and then."""
    assert paced(*[QUICK, other] * 16).quick


def test_what_is_never_quick_does_not_become_so():
    assert not paced(*[SLOW, BETWEEN] * 1000).quick


def test_a_few_slow_runs_do_not_end_it_but_four_close_together_do():
    quick = [QUICK] * 16
    assert paced(*quick, *[SLOW] * 3).quick
    assert not paced(*quick, *[SLOW] * 4).quick
    assert not paced(*quick, *[SLOW, *[QUICK] * 63] * 3, SLOW).quick
    assert paced(*quick, *[SLOW, *[QUICK] * 64] * 100).quick


def test_what_was_slow_has_to_be_quick_for_longer_each_time_up_to_a_bound():
    pace = paced(*[QUICK] * 16)
    needed = []
    for _ in range(10):
        for _ in range(4):
            pace.learn(SLOW)
        count = 0
        while not pace.quick:
            pace.learn(QUICK)
            count += 1
        needed.append(count)

    assert needed == [32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096]
