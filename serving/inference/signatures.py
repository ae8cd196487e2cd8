"""What requests check signatures against, and how errors describe them."""

from __future__ import annotations

from serving.core.servable import Signature

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


def outline(signature: Signature) -> str:
    """A signature in one line: its method and the aliases of its inputs and outputs."""
    inputs, outputs = ",".join(sorted(signature.inputs)), ",".join(sorted(signature.outputs))
    return f'inputs {{{inputs}}} outputs {{{outputs}}} method_name "{signature.method_name}"'
