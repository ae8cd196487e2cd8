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


def test_it_takes_a_row_of_quick_runs():
    assert not paced(*[QUICK] * 15).quick
    assert paced(*[QUICK] * 16).quick


def test_one_slow_run_ends_it_and_starts_the_count_anew():
    assert not paced(*[QUICK] * 16, SLOW).quick
    assert not paced(*[QUICK] * 15, SLOW, *[QUICK] * 15).quick
    assert paced(*[QUICK] * 16, SLOW, *[QUICK] * 16).quick


@pytest.mark.parametrize("quick_runs", [15, 16])
def test_a_run_neither_quick_nor_slow_says_nothing(quick_runs):
    runs = [BETWEEN, *[QUICK] * quick_runs, BETWEEN]
    assert paced(*runs).quick == (quick_runs == 16)
