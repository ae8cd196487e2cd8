"""Metadata: the signatures of a loaded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.core.errors import InvalidArgument
from serving.core.models import Models, ModelSpec
from serving.core.servable import Signature
from serving.core.servable_id import ServableId

SIGNATURE_DEF = "signature_def"
"""The one kind of metadata there is."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Every signature of one version, by name."""

    servable_id: ServableId
    signatures: Mapping[str, Signature]


def model_metadata(models: Models, spec: ModelSpec, fields: Sequence[str]) -> ModelMetadata:
    """The metadata ``fields`` of the version that ``spec`` resolves to.

    Raises InvalidArgument when no field, or one other than ``signature_def``, is asked for, and
    what :meth:`Models.lease` raises.
    """
    if not fields:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != SIGNATURE_DEF:
            raise InvalidArgument(f"Metadata field {field} is not supported")
    with models.lease(spec) as handle:
        return ModelMetadata(handle.id, dict(handle.servable.signatures))
