"""JSON objects to tensorflow.Example: what classify and regress are asked with."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.rest.json_document import Json, JsonObject, quote, type_name
from serving.apis.tensorflow_serving.rest.json_element import (
    decode_base64_object,
    is_base64_object,
    string_bytes,
)
from serving.core.errors import InvalidArgument

_INT64 = range(-(2**63), 2**63)


def serialized_examples(document: JsonObject) -> list[bytes]:
    """Each of ``examples`` as the bytes of a tensorflow.Example, after those of ``context``.

    Protobuf reads the two joined as one merged message. Raises InvalidArgument naming the feature
    that is wrong.
    """
    context = b""
    if "context" in document:
        context = _serialized(document["context"])
    if "examples" not in document:
        raise InvalidArgument(
            f"JSON Value: {quote(document)} When method is classify, key 'examples' is expected "
            "and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise InvalidArgument(
            f"JSON Value: {quote(document)} Expecting 'examples' value to be an list/array"
        )
    if not examples:
        raise InvalidArgument(f"JSON Value: {quote(document)} 'examples' value is an empty array")
    return [context + _serialized(example) for example in examples]


def _serialized(value: Json) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {type_name(value)}")
    example = protos.Example()
    example.features.SetInParent()
    for name, content in value.items():
        try:
            feature = example.features.feature[name]
        except UnicodeEncodeError:
            raise InvalidArgument(f"Feature: {quote(name)} has a name that is not UTF-8") from None
        for element in content if isinstance(content, list) else [content]:
            _add(element, name, feature)
    serialized: bytes = example.SerializeToString()
    return serialized


def _add(value: Json, name: str, feature: protos.Feature) -> None:
    """Append to the one list that a feature has; its first element decides which."""
    if isinstance(value, str):
        _values(feature, "bytes", name).append(string_bytes(value))
    elif isinstance(value, dict) and is_base64_object(value):
        _values(feature, "bytes", name).append(decode_base64_object(value))
    elif isinstance(value, int):
        values = _values(feature, "int64", name)
        if value not in _INT64:
            raise InvalidArgument(
                f"Feature: {name} has uint64_t element. Only int64_t is supported."
            )
        values.append(int(value))
    elif isinstance(value, float):
        _values(feature, "float", name).append(value)
    else:
        raise InvalidArgument(
            f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
        )


def _values(feature: protos.Feature, kind: str, name: str) -> MutableSequence[Any]:
    """The list of this kind; raises InvalidArgument when the feature has begun another one."""
    chosen = feature.WhichOneof("kind")
    if chosen not in (None, f"{kind}_list"):
        raise InvalidArgument(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{chosen.removesuffix('_list')}"
        )
    values: MutableSequence[Any] = getattr(feature, f"{kind}_list").value
    return values
