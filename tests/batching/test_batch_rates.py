"""What batches bring, counted by their size and by how many of them run at once."""

from __future__ import annotations

import pytest

from serving.batching.batch_queue import Batch, Entry
from serving.batching.batch_rates import BatchRates, Cell, cell_of
from serving.batching.batches_in_progress import BatchesInProgress

CELL = Cell(0, 2)


def learned(*times: float) -> float | None:
    rates = BatchRates()
    for seconds in times:
        rates.learn(CELL, 4, seconds)
    return rates.rate(CELL)


@pytest.mark.parametrize(
    ("at_once", "rows", "cell"),
    [(1, 1, (0, 0)), (1.3, 2, (0, 1)), (1.5, 3, (1, 2)), (4, 4, (2, 2)), (6, 5, (3, 3))],
)
def test_numbers_about_the_same_count_as_one(at_once: float, rows: int, cell: tuple[int, int]):
    assert cell_of(at_once, rows) == cell


def test_nothing_is_known_before_anything_was_run():
    assert learned() is None


def test_a_first_run_that_was_slow_is_forgotten_with_the_second():
    assert learned(10.0, 1.0) == pytest.approx(4.0)


def test_times_weigh_alike():
    assert learned(1.0, 3.0) == pytest.approx(2.0)


def test_a_single_long_run_counts_as_no_more_than_four():
    assert learned(1.0, 1.0, 1000.0) == pytest.approx(4 / 2)


def batch() -> Batch[str]:
    made: Batch[str] = Batch()
    made.add(Entry(1, "a", 2), 0.0)
    return made


def test_how_many_ran_meanwhile_is_their_mean_over_the_time():
    running, first, second = BatchesInProgress(), batch(), batch()
    running.begin(first, "s", 0.0)
    running.begin(second, "s", 3.0)
    assert (running.count, running.rows) == (2, 4)
    assert running.end(first, 4.0) == (4.0, pytest.approx(5 / 4))
    assert running.end(second, 5.0) == (2.0, pytest.approx(3 / 2))
    assert (running.count, running.rows) == (0, 0)


def test_batches_of_two_settings_that_ran_at_the_same_time_say_nothing():
    running, before, after, alone = BatchesInProgress(), batch(), batch(), batch()
    running.begin(before, "s", 0.0)
    running.begin(after, "t", 1.0)
    assert running.end(before, 2.0) is None
    assert running.end(after, 3.0) is None
    running.begin(alone, "t", 3.0)
    assert running.end(alone, 4.0) == (1.0, pytest.approx(1.0))


def test_a_batch_that_outlasts_two_changes_of_the_setting_spoils_only_those_beside_it():
    """The setting is the same again when it ends, but others ran meanwhile."""
    running, straggling, between, beside, alone = BatchesInProgress(), *(batch() for _ in range(4))
    running.begin(straggling, "s", 0.0)
    running.begin(between, "t", 1.0)
    assert running.end(between, 2.0) is None
    running.begin(beside, "s", 2.0)
    assert running.end(beside, 3.0) is None
    assert running.end(straggling, 4.0) is None
    running.begin(alone, "s", 4.0)
    assert running.end(alone, 5.0) == (1.0, pytest.approx(1.0))
