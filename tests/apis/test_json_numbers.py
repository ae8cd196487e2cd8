"""Floating-point numbers are written shortest that reads back, in C's notation."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.apis.tensorflow_serving.rest.json_numbers import decimal_texts

POWERS = [10.0**exponent for exponent in (-45, -38, -30, -18, -17, -6, -5, -4, 0, 5, 6, 9, 17, 38)]


def one_by_one(value: np.floating, digits: int) -> str:
    """The rule as it is written down, for one number."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if type(value)(text) != value:
        text = f"{value:.{digits}g}"
    return text if re.search("[.e]", text) else text + ".0"


def texts_of(array: np.ndarray) -> list[str]:
    """The texts of a few numbers, after a look that they are the same among many."""
    texts = decimal_texts(array)
    many = decimal_texts(np.concatenate([array, np.full(100, 0.25, array.dtype)]))
    assert many == texts + ["0.25"] * 100
    return texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9000000, "9e+06"),
        (999999, "999999.0"),
        (0.5, "0.5"),
        (0.0003, "0.0003"),
        (0.00003, "3e-05"),
        (555557.5, "555557.5"),
        (1234567, "1234567.0"),
        (0.2, "0.2"),
        (2.5, "2.5"),
        (0, "0.0"),
        (-0.0, "-0.0"),
        (1 / 3, "0.333333343"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_float32(value, text):
    assert texts_of(np.float32([value])) == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.2, "0.2"), (1 / 3, "0.33333333333333331"), (12345678, "12345678.0"), (1e22, "1e+22")],
)
def test_float64(value, text):
    assert texts_of(np.float64([value])) == [text]


def test_an_empty_array_has_no_texts():
    assert decimal_texts(np.zeros((0, 3), np.float32)) == []


@given(st.lists(st.floats(width=32) | st.sampled_from(POWERS).map(np.float32).map(float)))
def test_every_float32_follows_the_rule_and_reads_back(values):
    with np.errstate(under="ignore"):
        array = np.array(values, np.float32)
        texts = texts_of(array)
        assert texts == [one_by_one(value, 9) for value in array]
        np.testing.assert_array_equal(np.array([float(text) for text in texts], np.float32), array)


@given(st.lists(st.floats() | st.sampled_from(POWERS) | st.integers(-(2**60), 2**60).map(float)))
def test_every_float64_follows_the_rule_and_reads_back(values):
    array = np.array(values, np.float64)
    texts = texts_of(array)
    assert texts == [one_by_one(value, 17) for value in array]
    np.testing.assert_array_equal(np.array([float(text) for text in texts]), array)


@pytest.mark.parametrize(("kind", "digits"), [(np.float32, 9), (np.float64, 17)])
def test_neighbours_of_six_digit_decimals_follow_the_rule(kind, digits):
    """Where six digits just suffice or just do not."""
    random = np.random.default_rng(7)
    decimals = random.integers(-(10**6), 10**6, 2000) * 10.0 ** random.integers(-40, 32, 2000)
    decimals = decimals.astype(kind)
    array = np.concatenate(
        [decimals, np.nextafter(decimals, kind(np.inf)), np.nextafter(decimals, kind(-np.inf))]
    )
    assert decimal_texts(array) == [one_by_one(value, digits) for value in array]
