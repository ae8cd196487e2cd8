"""How requests find signatures, what they check them against, and how errors describe them."""

from __future__ import annotations

from serving.core.errors import InvalidArgument
from serving.core.observed_call import CURRENT_CALL
from serving.core.servable import Servable, Signature

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


def find_signature(servable: Servable, name: str) -> Signature:
    """The signature that a classification or regression names; raises InvalidArgument."""
    signature = servable.signatures.get(name)
    if signature is None:
        raise InvalidArgument(f"No signature was found with the name: {name}")
    call = CURRENT_CALL.get()
    if call is not None:
        call.signature_name = name
    return signature


def outline(signature: Signature) -> str:
    """A signature in one line: its method and the aliases of its inputs and outputs."""
    inputs, outputs = ",".join(sorted(signature.inputs)), ",".join(sorted(signature.outputs))
    return f'inputs {{{inputs}}} outputs {{{outputs}}} method_name "{signature.method_name}"'
