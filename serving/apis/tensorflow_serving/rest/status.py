"""Model status over REST: GetModelStatusResponse as protobuf prints it in JSON."""

from __future__ import annotations

import json

from serving.core.errors import Code
from serving.core.models import Models, ModelSpec
from serving.core.servable_state import ServableState
from serving.inference.model_status import model_status


def status_body(models: Models, spec: ModelSpec) -> bytes:
    """The states of the version named, or of all; raises NotFound when there are none."""
    states = [_version_status(state) for state in model_status(models, spec)]
    text = json.dumps({"model_version_status": states}, ensure_ascii=False, indent=1) + "\n"
    return text.encode("utf-8", "surrogateescape")


def _version_status(state: ServableState) -> dict[str, object]:
    code, message = (state.error.code, state.error.message) if state.error else (Code.OK, "")
    return {
        "version": str(state.id.version),  # an int64 is a string in protobuf's JSON
        "state": state.state.name,
        "status": {"error_code": code.name, "error_message": message},
    }
