"""JSON schemas of what the signatures of a model take and give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from serving.core.dtypes import DType
from serving.core.servable import DEFAULT_SIGNATURE, Signature, TensorInfo

_Json = dict[str, Any]

_DIGIT = "[A-Za-z0-9+/_-]"
_ENCODED = f"^({_DIGIT}{{4}})*({_DIGIT}{{2}}(==)?|{_DIGIT}{{3}}=?)?$"
_BASE64: _Json = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64", "pattern": _ENCODED}},
    "required": ["b64"],
    "additionalProperties": False,
}
_STRING: _Json = {"anyOf": [{"type": "string"}, _BASE64]}
_FEATURE: _Json = {"anyOf": [{"type": "number"}, {"type": "boolean"}, *_STRING["anyOf"]]}


def _integer(bits: int, *, signed: bool = True) -> _Json:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return {"type": "integer", "minimum": low, "maximum": high}


_ELEMENTS: Mapping[DType, _Json] = {
    DType.FLOAT: {"type": "number"},
    DType.DOUBLE: {"type": "number"},
    DType.INT8: _integer(8),
    DType.UINT8: _integer(8, signed=False),
    DType.INT16: _integer(16),
    DType.INT32: _integer(32),
    DType.INT64: _integer(64),
    DType.UINT32: _integer(32, signed=False),
    DType.UINT64: _integer(64, signed=False),
    DType.BOOL: {"type": "boolean"},
    DType.STRING: _STRING,
}


def is_in_json(signature: Signature) -> bool:
    """Whether JSON can carry all that it takes and gives."""
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    return bool(signature.inputs) and all(info.dtype in _ELEMENTS for info in tensors)


def predict_request(signatures: Mapping[str, Signature]) -> _Json:
    """A document in rows or in columns for one of the signatures, which are all for JSON."""
    return _any_of(
        form
        for name, signature in sorted(signatures.items())
        for form in (
            _request(name, {"instances": _rows(signature.inputs)}),
            _request(name, {"inputs": _columns(signature.inputs)}),
        )
    )


def predict_response(signatures: Mapping[str, Signature]) -> _Json:
    """``predictions`` for rows, ``outputs`` for columns."""
    forms: list[_Json] = []
    for _, signature in sorted(signatures.items()):
        outputs = {alias: _without_sizes(info) for alias, info in signature.outputs.items()}
        forms.append(_object({"predictions": _rows(outputs, least=0)}))
        forms.append(_object({"outputs": _columns(outputs)}))
    return _any_of(forms)


def takes_examples(signature: Signature, verb: str) -> bool:
    """Whether it may be classified or regressed with: it takes examples and gives results."""
    infos = list(signature.inputs.values())
    if len(infos) != 1 or infos[0].dtype is not DType.STRING or "inputs" not in signature.inputs:
        return False
    outputs = set(signature.outputs)
    if verb == "classify":
        return bool(outputs) and outputs <= {"classes", "scores"}
    return outputs == {"outputs"}


def examples_request(names: Iterable[str]) -> _Json:
    """``examples`` and a ``context`` for one of the signatures that take them."""
    feature = {"anyOf": [_FEATURE, {"type": "array", "items": _FEATURE}]}
    example = {"type": "object", "additionalProperties": feature}
    examples = {"type": "array", "minItems": 1, "items": example}
    return _any_of(
        _request(name, {"examples": examples}, {"context": example}) for name in sorted(names)
    )


def results(verb: str) -> _Json:
    """What classify or regress answer for each example."""
    label_or_score = {"anyOf": [{"type": "string"}, {"type": "number"}]}
    pair = {"type": "array", "items": label_or_score, "minItems": 2, "maxItems": 2}
    result = {"type": "array", "items": pair} if verb == "classify" else {"type": "number"}
    return _object({"results": {"type": "array", "items": result}})


def _request(name: str, required: _Json, optional: _Json | None = None) -> _Json:
    signature = {"signature_name": {"type": "string", "const": name}}
    must = [*required] if name == DEFAULT_SIGNATURE else ["signature_name", *required]
    properties = signature | required | (optional or {})
    return {"type": "object", "properties": properties, "required": must, "title": name}


def _rows(tensors: Mapping[str, TensorInfo], least: int = 1) -> _Json:
    """One element a row: objects by alias, or values where there is one tensor; never both."""
    columns = {alias: _tensor(info, skip=1) for alias, info in tensors.items()}
    rows = _list_of(_object(columns, additional=False), least)
    if len(columns) != 1:
        return rows
    return {"anyOf": [*(_list_of(value, least) for value in columns.values()), rows]}


def _columns(tensors: Mapping[str, TensorInfo]) -> _Json:
    """Whole tensors: the bare value where there is one, else an object by alias."""
    columns = {alias: _tensor(info) for alias, info in tensors.items()}
    by_alias = _object(columns)
    return {"anyOf": [*columns.values(), by_alias]} if len(columns) == 1 else by_alias


def _tensor(info: TensorInfo, skip: int = 0) -> _Json:
    """Lists nested as deep as the shape, but for the first ``skip`` dimensions."""
    schema = _ELEMENTS[info.dtype]
    if info.shape is None:
        return {
            "description": f"{info.dtype.label}, of any shape",
            "anyOf": [schema, {"type": "array"}],
        }
    for size in reversed(info.shape[skip:]):
        sizes = {} if size is None else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **sizes}
    return schema


def _list_of(items: _Json, least: int) -> _Json:
    return {"type": "array", "minItems": least, "items": items}


def _without_sizes(info: TensorInfo) -> TensorInfo:
    """Signatures promise sizes of outputs that the graph may not keep."""
    return TensorInfo(info.name, info.dtype, info.shape and (None,) * len(info.shape))


def _object(properties: _Json, *, additional: bool = True) -> _Json:
    schema: _Json = {"type": "object", "properties": properties, "required": [*properties]}
    return schema if additional else {**schema, "additionalProperties": False}


def _any_of(forms: Iterable[_Json]) -> _Json:
    return {"anyOf": [*forms]}
