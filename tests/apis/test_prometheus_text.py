"""The text of a page of metrics: TensorFlow Serving's form, which Prometheus' own parser reads."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.apis.monitoring.prometheus_text import metric_name, prometheus_text
from serving.metrics.families import Description, Distribution, Family, Kind
from serving.metrics.request_metrics import LATENCY_BOUNDS

COUNTER = Description("/tensorflow/serving/c", "words", Kind.COUNTER, ("model_name", "API"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/tensorflow/serving/request_count", ":tensorflow:serving:request_count"),
        ("model_server_x_total", "model_server_x_total"),
        ("a-b.c", "a:b:c"),
    ],
)
def test_what_is_no_letter_digit_or_underscore_becomes_a_colon(name: str, expected: str):
    assert metric_name(name) == expected


def test_a_counter_is_its_type_and_a_line_for_each_cell():
    text = prometheus_text([Family(COUNTER, {("m", "Predict"): 3, ("n", ""): 1})])
    assert text == (
        "# TYPE :tensorflow:serving:c counter\n"
        ':tensorflow:serving:c{model_name="m",API="Predict"} 3\n'
        ':tensorflow:serving:c{model_name="n",API=""} 1\n'
    )


def test_a_metric_without_cells_has_its_type_only():
    assert prometheus_text([Family(COUNTER, {})]) == "# TYPE :tensorflow:serving:c counter\n"


def test_metrics_of_this_server_say_what_they_are_and_prometheus_reads_it_back():
    described = Description("c_total", "back\\slash\nand more", Kind.COUNTER)
    text = prometheus_text([Family(described, {(): 1})])
    assert text.splitlines()[0] == r"# HELP c_total back\\slash\nand more"
    (family,) = text_string_to_metric_families(text)
    assert family.documentation == described.help


def test_a_histogram_counts_upwards_and_ends_with_its_sum():
    histogram = Description("/h", "", Kind.HISTOGRAM, ("m",), (1.0, 32.4))
    text = prometheus_text([Family(histogram, {("x",): Distribution((2, 0, 3), 120.5)})])
    assert text == (
        "# TYPE :h histogram\n"
        ':h_bucket{m="x",le="1"} 2\n'
        ':h_bucket{m="x",le="32.4"} 2\n'
        ':h_bucket{m="x",le="+Inf"} 5\n'
        ':h_sum{m="x"} 120.5\n'
        ':h_count{m="x"} 5\n'
    )


def test_a_histogram_without_labels_has_its_bounds_only():
    histogram = Description("h", "", Kind.HISTOGRAM, (), (1.0,))
    lines = prometheus_text([Family(histogram, {(): Distribution((1, 0), 1.0)})]).splitlines()
    assert lines[1:] == [
        'h_bucket{le="1"} 1',
        'h_bucket{le="+Inf"} 1',
        "h_sum{} 1.0",
        "h_count{} 1",
    ]


def test_bounds_have_six_digits_as_those_of_tensorflow_serving():
    histogram = Description("h", "", Kind.HISTOGRAM, (), LATENCY_BOUNDS)
    text = prometheus_text([Family(histogram, {(): Distribution((0,) * 34, 0.0)})])
    bounds = [line.split('"')[1] for line in text.splitlines() if "_bucket" in line]
    assert bounds[:7] == ["10", "18", "32.4", "58.32", "104.976", "188.957", "340.122"]
    assert bounds[-2:] == ["1.47476e+09", "+Inf"]


@pytest.mark.parametrize("value", ["a", 'quo"te', "back\\slash", "new\nline", "ümlaut", "\\n", ""])
def test_prometheus_reads_any_label_value_back(value: str):
    text = prometheus_text([Family(COUNTER, {(value, "x"): 1})])
    (family,) = text_string_to_metric_families(text)
    (sample,) = family.samples
    assert sample.labels == {"model_name": value, "API": "x"}
