"""The ModelSpec message: which model a request names, and which one answered."""

from __future__ import annotations

from google.protobuf.message import Message

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.core.errors import InvalidArgument
from serving.core.models import ModelSpec
from serving.core.servable_id import ServableId

NO_MODEL_SPEC = "Missing ModelSpec"


def requested_model(request: Message) -> ModelSpec:
    """The model that a request names in ``model_spec``; raises InvalidArgument without one."""
    model = model_of(request)
    if model is None:
        raise InvalidArgument(NO_MODEL_SPEC)
    return model


def model_of(request: Message) -> ModelSpec | None:
    """The model that a request names in ``model_spec``, if it has that."""
    if not request.HasField("model_spec"):
        return None
    return decode_model_spec(request.model_spec)  # type: ignore[attr-defined]  # generated class


def decode_model_spec(proto: protos.ModelSpec) -> ModelSpec:
    """The version or label is None unless the message has it."""
    choice = proto.WhichOneof("version_choice")
    return ModelSpec(
        proto.name,
        proto.version.value if choice == "version" else None,
        proto.version_label if choice == "version_label" else None,
    )


def encode_model_spec(
    servable_id: ServableId, proto: protos.ModelSpec, signature_name: str = ""
) -> None:
    """Say which version answered, through which signature; labels are not repeated."""
    proto.name = servable_id.name
    proto.version.value = servable_id.version
    proto.signature_name = signature_name
