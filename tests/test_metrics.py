"""Counters: cells by label, one counter a name, no count lost between threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.metrics import Metrics, request_count


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


def test_a_name_is_one_counter_with_one_set_of_labels():
    metrics = Metrics()
    assert request_count(metrics) is request_count(metrics)
    with pytest.raises(ValueError, match="has the labels"):
        metrics.counter("/tensorflow/serving/request_count", "", ("model",))


def test_counters_are_listed_by_name():
    metrics = Metrics()
    names = [metrics.counter(name, "", ()).name for name in ("/b", "/a")]
    assert [counter.name for counter in metrics.counters()] == sorted(names)


def test_the_first_value_is_that_of_the_first_cell_and_zero_without_one():
    metrics = Metrics()
    counter = metrics.counter("/c", "", ("model",))
    assert (metrics.first_value("/c"), metrics.first_value("/unknown")) == (0, 0)
    counter.increment("b", by=2)
    counter.increment("a", by=1)
    assert metrics.first_value("/c") == 1


def test_the_first_value_is_the_sum_of_all_processes():
    metrics = Metrics(lambda: [{"/c": {("a",): 10, ("b",): 5}}, {}, {"/d": {("a",): 3}}])
    counter = metrics.counter("/c", "", ("model",))
    counter.increment("b")
    assert (metrics.first_value("/c"), metrics.first_value("/d")) == (10, 3)
    counter.increment("a", by=2)
    assert metrics.first_value("/c") == 12


def test_no_increment_is_lost_between_threads():
    counter = Metrics().counter("/c", "", ())
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(lambda: [counter.increment() for _ in range(2000)])
    assert counter.cells() == {(): 8000}
