"""What clients may say about the order in which they are served."""

import pytest

from serving.core.errors import InvalidArgument
from serving.core.priority import Priority, requested_priority


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        ("high", Priority.HIGH),
        ("normal", Priority.NORMAL),
        ("low", Priority.LOW),
        ("High", Priority.HIGH),
        ("LOW", Priority.LOW),
    ],
)
def test_a_priority_is_asked_for_by_name_in_either_case(value, priority):
    assert requested_priority([("other", "low"), ("x-request-priority", value)]) is priority


def test_who_does_not_ask_is_served_as_normal():
    assert requested_priority([]) is Priority.NORMAL
    assert requested_priority([("priority", "high"), ("key-bin", b"\x00")]) is Priority.NORMAL


def test_the_first_of_several_counts():
    asked = [("x-request-priority", "low"), ("x-request-priority", "urgent")]
    assert requested_priority(asked) is Priority.LOW


@pytest.mark.parametrize("value", ["urgent", "", "0", " high", "high,low"])
def test_any_other_value_is_refused_by_its_name(value):
    with pytest.raises(InvalidArgument) as caught:
        requested_priority([("x-request-priority", value)])

    assert caught.value.message == (
        f"x-request-priority must be one of high, normal, low, not {value!r}"
    )


def test_what_is_served_first_is_smaller():
    assert Priority.HIGH < Priority.NORMAL < Priority.LOW
