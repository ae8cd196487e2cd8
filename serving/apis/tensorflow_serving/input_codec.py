"""What classify, regress and multi-inference are asked: examples, and what to do with them."""

from __future__ import annotations

from collections.abc import Sequence

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.inference.multi_inference import InferenceTask


def serialized_examples(message: protos.Input) -> Sequence[bytes]:
    """Each example as the bytes of a tensorflow.Example; none when the input holds no list.

    A context is put in front of every example: protobuf reads the two joined as one merged
    message.
    """
    kind = message.WhichOneof("kind")
    if kind == "example_list":
        return [example.SerializeToString() for example in message.example_list.examples]
    if kind == "example_list_with_context":
        both = message.example_list_with_context
        context = both.context.SerializeToString()
        return [context + example.SerializeToString() for example in both.examples]
    return []


def inference_tasks(message: protos.MultiInferenceRequest) -> Sequence[InferenceTask]:
    """The evaluations that a multi-inference asks for, in order."""
    return [
        InferenceTask(task.model_spec.name, task.model_spec.signature_name, task.method_name)
        for task in message.tasks
    ]
