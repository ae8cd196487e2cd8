"""How TensorFlow Lite models are run; importing this does not import the interpreter."""

from __future__ import annotations

from dataclasses import dataclass

MODEL_FILE = "model.tflite"
"""What a TensorFlow Lite model is called in a version's directory."""


@dataclass(frozen=True, slots=True)
class TfLiteOptions:
    """Settings of every TensorFlow Lite model in the process.

    With ``preferred``, a version of the ``tensorflow`` platform that holds a ``model.tflite`` is
    served from that and not from its SavedModel. ``num_interpreters`` is how many runs of one
    version are done at once; less than 1 counts as 1, as in TensorFlow Serving.
    """

    preferred: bool = False
    num_interpreters: int = 1
