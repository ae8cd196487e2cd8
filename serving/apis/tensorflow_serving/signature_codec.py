"""Signatures as SignatureDef messages."""

from __future__ import annotations

from collections.abc import Mapping

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.tensor_codec import encode_tensor
from serving.core.servable import Signature, TensorInfo


def encode_signatures(
    signatures: Mapping[str, Signature],
) -> protos.SignatureDefMap:
    """Every signature by name: the platform's own SignatureDef where it has one."""
    encoded = protos.SignatureDefMap()
    for name, signature in signatures.items():
        entry = encoded.signature_def[name]
        if signature.encoded:
            entry.MergeFromString(signature.encoded)
        else:
            _fill_signature(signature, entry)
    return encoded


def _fill_signature(signature: Signature, proto: protos.SignatureDef) -> None:
    proto.method_name = signature.method_name
    for alias, info in signature.inputs.items():
        _fill_tensor_info(info, proto.inputs[alias])
    for alias, info in signature.outputs.items():
        _fill_tensor_info(info, proto.outputs[alias])
    for alias, value in signature.defaults.items():
        encode_tensor(value, proto.defaults[alias])


def _fill_tensor_info(info: TensorInfo, proto: protos.TensorInfo) -> None:
    proto.name = info.name
    proto.dtype = int(info.dtype)  # type: ignore[assignment]  # enumerations are plain integers
    proto.tensor_shape.SetInParent()
    if info.shape is None:
        proto.tensor_shape.unknown_rank = True
        return
    for size in info.shape:
        proto.tensor_shape.dim.add(size=-1 if size is None else size)
