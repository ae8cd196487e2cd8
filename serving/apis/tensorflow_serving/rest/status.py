"""Model status over REST: GetModelStatusResponse as protobuf prints it in JSON."""

from __future__ import annotations

import json

from serving.core.errors import Code, NotFound
from serving.core.models import Models, ModelSpec
from serving.core.servable_state import ServableState
from serving.inference.model_status import model_status

_STATES = "model_version_status"


def status_body(models: Models, spec: ModelSpec) -> bytes:
    """The states of the version named, or of all; raises NotFound when there are none."""
    return _printed({_STATES: [_version_status(state) for state in model_status(models, spec)]})


def list_body(models: Models) -> bytes:
    """Every configured model with the states of its versions, none where none was found."""
    listed = []
    for name in sorted(models.names()):
        try:
            states = models.versions(name)
        except NotFound:
            states = ()
        listed.append({"name": name, _STATES: [_version_status(state) for state in states]})
    return _printed({"models": listed})


def _printed(document: object) -> bytes:
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    return text.encode("utf-8", "surrogateescape")


def _version_status(state: ServableState) -> dict[str, object]:
    code, message = (state.error.code, state.error.message) if state.error else (Code.OK, "")
    return {
        "version": str(state.id.version),  # an int64 is a string in protobuf's JSON
        "state": state.state.name,
        "status": {"error_code": code.name, "error_message": message},
    }
