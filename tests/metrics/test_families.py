"""What several processes hold together, and what lasts of one that is gone."""

from __future__ import annotations

import pytest

from serving.metrics.families import (
    Cells,
    Description,
    Distribution,
    Family,
    Kind,
    Snapshot,
    Together,
    lasting,
    merged,
)


def one(description: Description, cells: Cells) -> Snapshot:
    return {description.name: Family(description, cells)}


COUNTER = Description("/c", "", Kind.COUNTER, ("model",))
HISTOGRAM = Description("/h", "", Kind.HISTOGRAM, (), (1.0,))


def test_counters_are_summed_cell_by_cell():
    together = merged([one(COUNTER, {("b",): 1}), one(COUNTER, {("b",): 2, ("a",): 4})])
    assert list(together["/c"].cells.items()) == [(("a",), 4), (("b",), 3)]


def test_histograms_are_summed_bucket_by_bucket():
    cells = [{(): Distribution((1, 2), 0.5)}, {(): Distribution((10, 20), 5.0)}]
    together = merged(one(HISTOGRAM, each) for each in cells)
    assert together["/h"].cells == {(): Distribution((11, 22), 5.5)}


@pytest.mark.parametrize(
    ("rule", "expected"), [(Together.SUM, 5), (Together.MAX, 3), (Together.MIN, 2)]
)
def test_gauges_come_together_as_each_says(rule: Together, expected: int):
    gauge = Description("/g", "", Kind.GAUGE, together=rule)
    assert merged([one(gauge, {(): 2}), one(gauge, {(): 3})])["/g"].cells == {(): expected}


def test_metrics_that_only_one_process_has_are_there_in_order_of_names():
    together = merged([one(HISTOGRAM, {}), one(COUNTER, {("a",): 1})])
    assert list(together) == ["/c", "/h"]


def test_what_is_not_the_same_metric_is_not_added():
    other = Description("/h", "", Kind.HISTOGRAM, (), (1.0, 2.0))
    first = one(HISTOGRAM, {(): Distribution((1, 2), 0.5)})
    assert merged([first, one(other, {(): Distribution((1, 2, 3), 0.5)})]) == first


def test_all_but_gauges_lasts():
    gauge = Description("/g", "", Kind.GAUGE)
    snapshot = {
        **one(gauge, {(): 1}),
        **one(COUNTER, {("a",): 1}),
        **one(HISTOGRAM, {(): Distribution((1, 2), 0.5)}),
    }
    assert list(lasting(snapshot)) == ["/c", "/h"]
