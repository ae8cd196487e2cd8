"""Metrics: cells by label, one metric a name, nothing lost between threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.metrics import families
from serving.metrics.families import OTHER, Description, Distribution, Family, Kind
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import request_count


def test_a_counter_counts_for_each_combination_of_labels():
    counter = Metrics().counter("/c", "words", ("model", "status"))
    counter.increment("b", "OK")
    counter.increment("a", "OK", by=2)
    counter.increment("b", "OK")
    assert list(counter.cells().items()) == [(("a", "OK"), 2), (("b", "OK"), 2)]


def test_a_cell_needs_a_value_for_every_label():
    counter = Metrics().counter("/c", "words", ("model", "status"))
    with pytest.raises(ValueError, match="takes the labels"):
        counter.increment("a")


def test_an_observation_falls_into_the_first_bucket_that_it_is_not_above():
    histogram = Metrics().histogram("/h", "", ("model",), [1, 10])
    for value in (0.5, 1, 1.5, 10, 10.5, 11):
        histogram.observe(value, "m")
    assert histogram.cells() == {("m",): Distribution((2, 2, 2), 34.5)}


def test_a_gauge_goes_down_again():
    gauge = Metrics().gauge("/g", "", ())
    gauge.cell().add(3)
    gauge.cell().add(-1)
    assert gauge.cells() == {(): 2}


def test_a_name_is_one_metric_with_one_set_of_labels():
    metrics = Metrics()
    assert request_count(metrics) is request_count(metrics)
    name = "/tensorflow/serving/request_count"
    with pytest.raises(ValueError, match="is a counter with the labels"):
        metrics.counter(name, "", ("model",))
    with pytest.raises(ValueError, match="is a counter with the labels"):
        metrics.gauge(name, "", ("model_name", "status"))


def test_a_histogram_has_one_set_of_buckets():
    metrics = Metrics()
    metrics.histogram("/h", "", (), [1, 2])
    with pytest.raises(ValueError, match="is a histogram"):
        metrics.histogram("/h", "", (), [1, 3])


def test_what_has_too_many_or_too_long_labels_is_counted_together(monkeypatch):
    """There must be no way to fill the memory; how a call ended is told all the same."""
    monkeypatch.setattr(families, "MOST_CELLS", 2)
    counter = Metrics().counter("/c", "", ("model", "status"))
    for model in ("a", "b", "c", "d", "a"):
        counter.increment(model, "OK")
    counter.increment("c", "INTERNAL")
    assert counter.cells() == {
        ("a", "OK"): 2,
        ("b", "OK"): 1,
        (OTHER, "OK"): 2,
        (OTHER, "INTERNAL"): 1,
    }
    counter.increment("x" * 1025, "OK")
    assert counter.cells()[OTHER, "OK"] == 3


def test_cells_can_be_forgotten_by_some_of_their_labels():
    counter = Metrics().counter("/c", "", ("model", "version", "status"))
    for labels in (("a", "1", "OK"), ("a", "1", "NOT_FOUND"), ("a", "2", "OK"), ("b", "1", "OK")):
        counter.increment(*labels)
    counter.forget(model="a", version="1")
    assert set(counter.cells()) == {("a", "2", "OK"), ("b", "1", "OK")}


def test_what_is_sampled_is_asked_for_each_time():
    metrics = Metrics()
    description = Description("/g", "", Kind.GAUGE)
    values = iter([1, 2])
    metrics.sampled([description], lambda: {"/g": {(): next(values)}})
    assert metrics.snapshot() == {"/g": Family(description, {(): 1})}
    assert metrics.snapshot() == {"/g": Family(description, {(): 2})}


def test_the_first_value_is_that_of_the_first_cell_and_zero_without_one():
    metrics = Metrics()
    counter = metrics.counter("/c", "", ("model",))
    assert (metrics.first_value("/c"), metrics.first_value("/unknown")) == (0, 0)
    counter.increment("b", by=2)
    counter.increment("a", by=1)
    assert metrics.first_value("/c") == 1
    metrics.histogram("/h", "", (), [1]).observe(1)
    assert metrics.first_value("/h") == 0


def test_the_first_value_is_the_sum_of_all_processes():
    other = Metrics()
    for model, value in (("a", 10), ("b", 5)):
        other.counter("/c", "", ("model",)).increment(model, by=value)
    other.counter("/d", "", ("model",)).increment("a", by=3)
    metrics = Metrics(lambda count: [other.snapshot(), count(), {}])
    counter = metrics.counter("/c", "", ("model",))
    counter.increment("b")
    assert (metrics.first_value("/c"), metrics.first_value("/d")) == (10, 3)
    counter.increment("a", by=2)
    assert metrics.first_value("/c") == 12


def test_nothing_is_lost_between_threads(threads_that_take_turns_often):
    metrics = Metrics()
    counter = metrics.counter("/c", "", ("model",))
    histogram = metrics.histogram("/h", "", ("model",), [1])

    def work() -> None:
        for _ in range(2000):
            counter.increment("m")
            histogram.observe(1, "m")

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(work)
    assert counter.cells() == {("m",): 8000}
    assert histogram.cells() == {("m",): Distribution((8000, 0), 8000)}
