"""How Keras models are loaded; importing this imports no framework."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.loaders.tensorflow_options import TensorFlowOptions


@dataclass(frozen=True, slots=True)
class KerasOptions:
    """``tensorflow``: of the sessions that run them. With ``allow_code``, Python code that a model
    file brings, as Lambda layers do, is run in the server.
    """

    tensorflow: TensorFlowOptions = field(default_factory=TensorFlowOptions)
    allow_code: bool = False
