"""Statuses and the states of versions as messages."""

from __future__ import annotations

from collections.abc import Iterable

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.core.errors import Code, ServingError
from serving.core.servable_state import ServableState


def encode_model_status(
    states: Iterable[ServableState],
) -> protos.GetModelStatusResponse:
    """One entry for each version, in the order given, with the error of those that failed."""
    response = protos.GetModelStatusResponse()
    for state in states:
        entry = response.model_version_status.add(version=state.id.version, state=int(state.state))
        fill_status(state.error, entry.status)
    return response


def fill_status(error: ServingError | None, proto: protos.StatusProto) -> None:
    """Write an error, or OK, which is a status that is present and empty."""
    proto.SetInParent()
    code = int(error.code if error else Code.OK)
    proto.error_code = code  # type: ignore[assignment]  # enumerations are plain integers
    if error:
        proto.error_message = error.message
