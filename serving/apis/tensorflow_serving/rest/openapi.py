"""An OpenAPI 3.1 document of the models that are served now, made from their signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from serving.apis.tensorflow_serving.rest import openapi_schemas as schemas
from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.core.models import Models, ModelSpec, lease_and_wait
from serving.core.servable import Signature
from serving.core.servable_state import ManagerState

_Json = dict[str, Any]

_ERROR: _Json = {
    "description": "What is wrong, in words.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"error": {"type": "string"}},
                "required": ["error"],
            }
        }
    },
}
_STATUS_SCHEMA: _Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "version": {"type": "string"},
            "state": {"type": "string"},
            "status": {
                "type": "object",
                "properties": {
                    "error_code": {"type": "string"},
                    "error_message": {"type": "string"},
                },
            },
        },
        "required": ["version", "state", "status"],
    },
}


@dataclass(frozen=True, slots=True)
class _Version:
    """A version that is loaded, and how it can be called."""

    name: str
    number: int
    signatures: Mapping[str, Signature]


def document(models: Models, clock: Clock) -> bytes:
    """The document, as JSON. Waits for nothing: what is not loaded has no place in it."""
    paths: _Json = {
        "/v1/models": {"get": _get("All models and their versions", "models", _list_schema())}
    }
    for name in sorted(models.names()):
        paths |= _status_paths(name)
        latest = True
        for version in _loaded(models, name, clock):
            base = f"/v1/models/{quote(name, safe='')}"
            if latest:
                paths |= _paths(base, version)
            paths |= _paths(f"{base}/versions/{version.number}", version)
            latest = False
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "Model Server",
            "version": "1",
            "description": "TensorFlow Serving's REST API for the models that are served now.",
        },
        "paths": paths,
    }
    return json.dumps(described, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _loaded(models: Models, name: str, clock: Clock) -> Iterator[_Version]:
    """The versions that are available, highest first. One that goes meanwhile is left out."""
    with suppress(ServingError):
        for state in models.versions(name):
            if state.state is not ManagerState.AVAILABLE:
                continue
            spec = ModelSpec(name, state.id.version)
            with suppress(ServingError), lease_and_wait(models, spec, clock.monotonic()) as handle:
                yield _Version(name, state.id.version, dict(handle.servable.signatures))


def _paths(base: str, version: _Version) -> _Json:
    """What can be asked of one version below ``base``."""
    tag = f"{version.name}, version {version.number}"
    paths: _Json = {
        f"{base}/metadata": {"get": _get("The signatures", tag, {"type": "object"})},
        f"{base}:predict": {"post": _predict(version, tag)},
    }
    for verb in ("classify", "regress"):
        names = [
            name
            for name, signature in version.signatures.items()
            if schemas.takes_examples(signature, verb)
        ]
        if names:
            request, answered = schemas.examples_request(names), schemas.results(verb)
            paths[f"{base}:{verb}"] = {"post": _post(verb.capitalize(), tag, request, answered)}
    return paths


def _status_paths(name: str) -> _Json:
    schema = {"type": "object", "properties": {"model_version_status": _STATUS_SCHEMA}}
    path = f"/v1/models/{quote(name, safe='')}"
    return {path: {"get": _get("Where its versions stand", name, schema)}}


def _list_schema() -> _Json:
    listed = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "model_version_status": _STATUS_SCHEMA},
        "required": ["name", "model_version_status"],
    }
    return {"type": "object", "properties": {"models": {"type": "array", "items": listed}}}


def _get(summary: str, tag: str, schema: _Json) -> _Json:
    return {"summary": summary, "tags": [tag], "responses": _responses(schema)}


def _predict(version: _Version, tag: str) -> _Json:
    in_json = {
        name: signature
        for name, signature in version.signatures.items()
        if schemas.is_in_json(signature)
    }
    request = schemas.predict_request(in_json)
    operation = _post("Predict", tag, request, schemas.predict_response(in_json))
    for described in (operation["requestBody"], operation["responses"]["200"]):
        described["content"] |= {"application/x-npy": {}, "application/x-npz": {}}
        if not in_json:
            del described["content"]["application/json"]
    operation["parameters"] = [
        {
            "name": "x-signature-name",
            "in": "header",
            "description": "The signature to run, where the body is no JSON.",
            # No enumeration: where the body is JSON, the header is not looked at.
            "schema": {"type": "string", "examples": sorted(version.signatures)},
        }
    ]
    return operation


def _post(summary: str, tag: str, request: _Json, response: _Json) -> _Json:
    return {
        "summary": summary,
        "tags": [tag],
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": _responses(response),
    }


def _responses(schema: _Json) -> _Json:
    answered = {"description": "OK", "content": {"application/json": {"schema": schema}}}
    return {"200": answered, "default": _ERROR}
