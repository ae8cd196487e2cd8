"""What is expected of a batch, by the times of those before it."""

from __future__ import annotations

import pytest

from serving.batching.run_times import RunTimes


def learned(*times: tuple[int, float]) -> RunTimes:
    run_times = RunTimes()
    for size, seconds in times:
        run_times.learn(size, seconds)
    return run_times


def test_nothing_is_expected_before_anything_was_run():
    assert RunTimes().expected(8) == 0
    assert not RunTimes().knows(8)


@pytest.mark.parametrize(
    ("size", "seconds"), [(1, 2.0), (4, 2.0), (10, 5.0), (16, 8.0), (32, 16.0)]
)
def test_between_known_sizes_it_is_a_line_below_them_the_least_and_beyond_in_proportion(
    size: int, seconds: float
):
    assert learned((16, 8.0), (4, 2.0)).expected(size) == pytest.approx(seconds)


def test_sizes_up_to_the_same_power_of_two_are_one():
    run_times = learned((3, 1.0))
    assert [run_times.knows(size) for size in (2, 3, 4, 5)] == [False, True, True, False]


def test_a_first_run_that_took_long_is_forgotten_with_the_second():
    assert learned((1, 30.0), (1, 0.01)).expected(1) == pytest.approx(0.01)


def test_a_single_long_run_changes_little_but_lasting_change_is_learned():
    run_times = learned(*[(1, 1.0)] * 4, (1, 100.0))
    assert run_times.expected(1) < 1.5
    for _ in range(60):
        run_times.learn(1, 3.0)
    assert run_times.expected(1) == pytest.approx(3.0, rel=0.01)


def test_a_batch_without_rows_teaches_nothing():
    assert learned((0, 1.0)).expected(1) == 0


@pytest.mark.parametrize(("size", "seconds"), [(1, 2.0), (10, 5.0), (16, 8.0), (32, 8.0)])
def test_what_is_known_of_a_size_is_no_more_than_the_largest_took(size: int, seconds: float):
    assert learned((16, 8.0), (4, 2.0)).known(size) == pytest.approx(seconds)
    assert RunTimes().known(size) == 0


def test_the_latest_start_leaves_a_tenth_of_the_run_and_two_milliseconds_to_spare():
    assert learned((4, 2.0)).latest_start(10.0, 4) == pytest.approx(10 - 2.2 - 0.002)
    assert RunTimes().latest_start(10.0, 4) == pytest.approx(9.998)
