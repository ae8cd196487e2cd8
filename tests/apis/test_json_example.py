"""JSON objects become the tensorflow.Example records that classify and regress take."""

from __future__ import annotations

import math

import pytest
from tensorflow.core.example import example_pb2

from serving.apis.tensorflow_serving.rest.json_document import read_object
from serving.apis.tensorflow_serving.rest.json_example import serialized_examples
from serving.core.errors import InvalidArgument


def examples_of(text: str) -> list[example_pb2.Example]:
    serialized = serialized_examples(read_object(text.encode()))
    return [example_pb2.Example.FromString(data) for data in serialized]


def features_of(example: example_pb2.Example) -> dict[str, tuple[str | None, list]]:
    kinds = {name: value.WhichOneof("kind") for name, value in example.features.feature.items()}
    return {
        name: (kind, list(getattr(example.features.feature[name], kind).value) if kind else [])
        for name, kind in kinds.items()
    }


def test_the_first_value_decides_the_kind_of_a_feature():
    (example,) = examples_of(
        '{"examples": [{"names": ["a", {"b64": "aGk="}], "ratings": [8.0, NaN, Infinity],'
        ' "age": 20, "flags": [1, true, false], "none": [], "far": 1e300,'
        ' "long": 18446744073709551616}]}'
    )
    features = features_of(example)
    ratings = features.pop("ratings")
    assert ratings[0] == "float_list"
    assert ratings[1][0] == 8.0
    assert math.isnan(ratings[1][1])
    assert features == {
        "names": ("bytes_list", [b"a", b"hi"]),
        "age": ("int64_list", [20]),
        "flags": ("int64_list", [1, 1, 0]),
        "none": (None, []),
        "far": ("float_list", [math.inf]),
        "long": ("float_list", [2.0**64]),
    }


def test_a_context_is_merged_into_every_example():
    first, second = examples_of(
        '{"context": {"query": "pizza"}, "examples": [{"age": 1}, {"age": 2}]}'
    )
    assert features_of(first) == {
        "query": ("bytes_list", [b"pizza"]),
        "age": ("int64_list", [1]),
    }
    assert features_of(second)["age"] == ("int64_list", [2])
    assert features_of(second)["query"] == ("bytes_list", [b"pizza"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{}",
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            '{"examples": 1}',
            "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        ),
        (
            '{"examples": []}',
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        ('{"examples": [[]]}', "Example must be JSON object but got JSON Array"),
        ('{"context": [], "examples": []}', "Example must be JSON object but got JSON Array"),
        (
            '{"examples": [{"x": [10, null]}]}',
            "Feature: x has element with unexpected JSON type: Null",
        ),
        (
            '{"examples": [{"x": [10, {"test": 1}]}]}',
            "Feature: x has element with unexpected JSON type: Object",
        ),
        (
            '{"examples": [{"x": [[10], 20]}]}',
            "Feature: x has element with unexpected JSON type: Array",
        ),
        (
            '{"examples": [{"x": [10, 10.0]}]}',
            "Unexpected element type in feature: x expecting type: int64",
        ),
        (
            '{"examples": [{"x": [1.5, "a"]}]}',
            "Unexpected element type in feature: x expecting type: float",
        ),
        (
            '{"examples": [{"x": ["a", true]}]}',
            "Unexpected element type in feature: x expecting type: bytes",
        ),
        (
            '{"examples": [{"x": 18446744073709551603}]}',
            "Feature: x has uint64_t element. Only int64_t is supported.",
        ),
        (
            '{"examples": [{"x": 1' + "0" * 400 + "}]}",
            "JSON Parse error: Number too big to be stored in double. at offset: 20",
        ),
        ('{"examples": [{"x": {"b64": "?"}}]}', "Unable to base64 decode"),
    ],
)
def test_a_bad_example_is_named(text, message):
    with pytest.raises(InvalidArgument) as refused:
        examples_of(text)
    assert refused.value.message == message


def test_a_name_that_is_no_text_is_refused():
    for document in (
        b'{"examples": [{"a\xff": 1}]}',
        b'{"context": {"a\xff": 1}, "examples": [{}]}',
    ):
        with pytest.raises(InvalidArgument) as refused:
            serialized_examples(read_object(document))
        assert refused.value.message == 'Feature: "a" has a name that is not UTF-8'
