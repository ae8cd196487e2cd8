"""The signatures of a SessionBundle as SignatureDefs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from serving.core.errors import InvalidArgument, Unimplemented
from serving.core.servable import DEFAULT_SIGNATURE
from serving.generated.session_bundle_manifest_pb2 import Signature, Signatures, TensorBinding

_INPUTS, _OUTPUTS, _CLASSES, _SCORES = "inputs", "outputs", "classes", "scores"
_PREDICT = "predict"
_METHOD = "tensorflow/serving/"

Describe = Callable[[str], TensorInfo]
"""What the graph tells of a tensor, by name; raises InvalidArgument for one that it has not."""


def signature_defs(signatures: Signatures, describe: Describe) -> dict[str, SignatureDef]:
    """Every signature that says which of its tensors are inputs and which are outputs, by name.

    The default one is ``serving_default``. The generic ones named ``inputs`` and ``outputs`` are
    together one for Predict: ``serving_default`` where there is no other default, else ``predict``.
    Other generic ones are left out. Raises Unimplemented for a generic default, InvalidArgument for
    ``inputs`` without ``outputs``, a tensor that is not in the graph, or one with no name.
    """
    found = {}
    for name, signature in sorted(signatures.named_signatures.items()):
        if definition := _with_roles(signature, describe):
            found[name] = definition
    if signatures.HasField("default_signature"):
        default = _with_roles(signatures.default_signature, describe)
        if default is None:
            raise Unimplemented(
                "Only classification and regression default signatures are supported"
            )
        found[DEFAULT_SIGNATURE] = default
    if prediction := _prediction(signatures.named_signatures, describe):
        found[_PREDICT if DEFAULT_SIGNATURE in found else DEFAULT_SIGNATURE] = prediction
    return found


def _with_roles(signature: Signature, describe: Describe) -> SignatureDef | None:
    """None for a generic signature, which does not tell inputs from outputs."""
    if signature.HasField("regression_signature"):
        regression = signature.regression_signature
        return _definition(
            "regress", {_INPUTS: regression.input}, {_OUTPUTS: regression.output}, describe
        )
    if signature.HasField("classification_signature"):
        classification = signature.classification_signature
        outputs = {
            name: getattr(classification, name)
            for name in (_CLASSES, _SCORES)
            if getattr(classification, name).tensor_name
        }
        return _definition("classify", {_INPUTS: classification.input}, outputs, describe)
    return None


def _prediction(named: Mapping[str, Signature], describe: Describe) -> SignatureDef | None:
    sides = [
        named[side].generic_signature.map
        for side in (_INPUTS, _OUTPUTS)
        if side in named and named[side].HasField("generic_signature")
    ]
    if not sides:
        return None
    if len(sides) == 1:
        raise InvalidArgument(
            f"Of the named generic signatures {_INPUTS!r} and {_OUTPUTS!r} one is missing"
        )
    inputs, outputs = sides
    return _definition("predict", inputs, outputs, describe)


def _definition(
    verb: str,
    inputs: Mapping[str, TensorBinding],
    outputs: Mapping[str, TensorBinding],
    describe: Describe,
) -> SignatureDef:
    definition = SignatureDef(method_name=_METHOD + verb)
    for tensors, bindings in ((definition.inputs, inputs), (definition.outputs, outputs)):
        for alias, binding in bindings.items():
            tensors[alias].CopyFrom(describe(binding.tensor_name))
    return definition
