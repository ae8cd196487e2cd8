"""Cells: what comes while changes are taken in is not lost, and values are exact when read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.metrics import cells
from serving.metrics.cells import DistributionCell, NumberCell
from serving.metrics.families import Distribution


class Interrupted(NumberCell):
    """Somebody else adds ten while the first changes are taken in."""

    was_interrupted = False

    def _take_in(self, changes: Sequence[float]) -> None:
        if not self.was_interrupted:
            self.was_interrupted = True
            self.add(10)
        super()._take_in(changes)


def test_what_comes_while_others_are_taken_in_is_taken_in_next() -> None:
    cell = Interrupted()
    cell.add(1)
    assert cell.value() == 1
    assert cell.value() == 11


@pytest.mark.usefixtures("threads_that_take_turns_often")
def test_nothing_is_lost_nor_counted_twice_while_threads_add_and_others_read() -> None:
    cell = NumberCell()
    values: list[list[float]] = [[], []]

    def read(seen: list[float]) -> None:
        while not seen or seen[-1] < 6000:
            seen.append(cell.value())

    def add() -> None:
        for _ in range(2000):
            cell.add()

    with ThreadPoolExecutor(5) as pool:
        work = [pool.submit(read, seen) for seen in values]
        work += [pool.submit(add) for _ in range(3)]
        for each in work:
            each.result(timeout=50)
    assert cell.value() == 6000
    assert all(seen == sorted(seen) for seen in values)


@pytest.mark.parametrize("times", [1, 127, 128, 129, 1000])
def test_a_value_is_exact_however_many_changes_wait(times: int) -> None:
    number, distribution = NumberCell(), DistributionCell([1, 10])
    for _ in range(times):
        number.add()
        distribution.observe(10)
    assert number.value() == times
    assert distribution.value() == Distribution((0, times, 0), 10.0 * times)


def test_no_more_changes_wait_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that nobody reads must not fill the memory."""
    monkeypatch.setattr(cells, "_MOST_PENDING", 4)
    cell = NumberCell()
    for _ in range(10):
        cell.add()
        assert len(cell._pending) < 4
