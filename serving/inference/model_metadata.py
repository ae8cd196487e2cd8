"""Metadata: the signatures of a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.core.errors import InvalidArgument, ServingError
from serving.core.models import Models, ModelSpec
from serving.core.servable import Signature
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId

SIGNATURE_DEF = "signature_def"
"""The one kind of metadata there is."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Every signature of one version, by name."""

    servable_id: ServableId
    signatures: Mapping[str, Signature]


def model_metadata(
    models: Models,
    spec: ModelSpec,
    fields: Sequence[str],
    deadline: float | None,
    done: Callable[[ModelMetadata | ServingError], None],
) -> None:
    """Give ``done`` the metadata ``fields`` of the version that ``spec`` resolves to, once.

    The errors, and the thread of the call, are those of :meth:`Models.lease`. Raises
    InvalidArgument when no field, or one other than ``signature_def``, is asked for.
    """
    if not fields:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != SIGNATURE_DEF:
            raise InvalidArgument(f"Metadata field {field} is not supported")

    def leased(handle: ServableHandle | ServingError) -> None:
        if isinstance(handle, ServingError):
            done(handle)
            return
        with handle:
            metadata = ModelMetadata(handle.id, dict(handle.servable.signatures))
        done(metadata)

    models.lease(spec, deadline, leased)
