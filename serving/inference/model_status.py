"""Status: where the versions of a model stand."""

from __future__ import annotations

from collections.abc import Sequence

from serving.core.errors import NotFound
from serving.core.models import Models, ModelSpec
from serving.core.observed_call import CURRENT_CALL
from serving.core.servable_state import ServableState


def model_status(models: Models, spec: ModelSpec) -> Sequence[ServableState]:
    """The state of the version named, or of every version ever seen, highest first.

    A label is not looked at: it says which version serves, and all are listed. Raises NotFound
    when nothing has been seen of the version or the model.
    """
    call = CURRENT_CALL.get()
    if call is not None:
        call.asks_for(spec.name, spec.version)
    states = models.versions(spec.name)
    if spec.version is None:
        if not states:
            raise NotFound(f"Could not find any versions of model {spec.name}")
        return states
    for state in states:
        if state.id.version == spec.version:
            return [state]
    raise NotFound(f"Could not find version {spec.version} of model {spec.name}")
