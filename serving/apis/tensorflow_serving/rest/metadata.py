"""Model metadata over REST: GetModelMetadataResponse, with the Any in it printed as its message."""

from __future__ import annotations

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.model_spec import encode_model_spec
from serving.apis.tensorflow_serving.signature_codec import encode_signatures
from serving.inference.model_metadata import SIGNATURE_DEF, ModelMetadata


def metadata_body(metadata: ModelMetadata) -> bytes:
    """Every signature of a version.

    ``signature_def`` stands twice, as the field of the response and as that of the map in it.
    """
    model_spec = protos.ModelSpec()
    encode_model_spec(metadata.servable_id, model_spec)
    text = (
        f'{{\n"model_spec":{_printed(model_spec)}\n,\n'
        f'"metadata": {{"{SIGNATURE_DEF}": {_printed(encode_signatures(metadata.signatures))}\n'
        "}\n}\n"
    )
    return text.encode("utf-8")


def _printed(message: Message) -> str:
    return MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
        indent=1,
    )
