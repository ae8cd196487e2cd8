"""Statuses and the states of versions as messages."""

from __future__ import annotations

from collections.abc import Iterable

from tensorflow_serving.apis import get_model_status_pb2, status_pb2

from serving.core.errors import Code, ServingError
from serving.core.servable_state import ServableState


def encode_model_status(
    states: Iterable[ServableState],
) -> get_model_status_pb2.GetModelStatusResponse:
    """One entry for each version, in the order given, with the error of those that failed."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for state in states:
        entry = response.model_version_status.add(version=state.id.version, state=int(state.state))
        fill_status(state.error, entry.status)
    return response


def fill_status(error: ServingError | None, proto: status_pb2.StatusProto) -> None:
    """Write an error, or OK, which is a status that is present and empty."""
    proto.SetInParent()
    proto.error_code = int(error.code if error else Code.OK)
    if error:
        proto.error_message = error.message
