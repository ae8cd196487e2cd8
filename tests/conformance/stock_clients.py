"""What the conformance tests share: the stubs that clients of TensorFlow Serving use, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from waiting import WAIT_SECONDS, await_

States = Mapping[int, tuple[str, str]]
"""Version → the names of its state and of its error's code."""

_UNLIMITED = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class Client:
    """The two services over one channel of its own; every call has a generous deadline."""

    def __init__(self, target: int | str) -> None:
        """``target``: a port on the loopback interface, or an address of gRPC's."""
        address = f"127.0.0.1:{target}" if isinstance(target, int) else target
        # Channels of equal arguments would share one connection.
        own = (*_UNLIMITED, ("grpc.use_local_subchannel_pool", 1))
        self.channel = grpc.insecure_channel(address, options=own)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def call(self, method: str, request: Message) -> Any:
        """The response of a method of either service."""
        return self.method(method)(request, timeout=WAIT_SECONDS)

    def future(self, method: str, request: Message) -> Any:
        """The call in progress."""
        return self.method(method).future(request, timeout=WAIT_SECONDS)

    def failure(self, method: str, request: Message) -> tuple[str, str]:
        """The code's name and the text of a call that is refused."""
        try:
            answer = self.call(method, request)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        raise AssertionError(f"{method} should have been refused, but answered {answer}")

    def predict(self, spec: model_pb2.ModelSpec, **inputs: Any) -> dict[str, Any]:
        """Outputs by alias, from inputs by alias."""
        response = self.call("Predict", predict_request(spec, **inputs))
        return {alias: tf.make_ndarray(proto) for alias, proto in response.outputs.items()}

    def states(self, name: str = "m") -> States:
        """Where the versions of a model stand; empty when the server knows of none."""
        try:
            response = self.call("GetModelStatus", status_request(spec(name)))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return {}
        return {
            version.version: (
                get_model_status_pb2.ModelVersionStatus.State.Name(version.state),
                grpc_code_name(version.status.error_code),
            )
            for version in response.model_version_status
        }

    def await_states(self, expected: States, name: str = "m") -> None:
        """Return once the versions of a model stand exactly so."""
        await_(
            lambda: self.states(name) == expected, lambda: f"{expected}, not {self.states(name)}"
        )

    def method(self, method: str) -> Any:
        """What calls a method of either service."""
        return getattr(self.predictions, method, None) or getattr(self.models, method)


@contextmanager
def client_of(target: int | str) -> Iterator[Client]:
    """A client whose channel is closed with the block."""
    client = Client(target)
    with client.channel:
        yield client


def publish(
    exporter: Callable[..., None], base: Path, version: int | str, **arguments: object
) -> Path:
    """Export a version beside the base path, and move it in when it is whole."""
    unfinished = base.with_name(f"{base.name}-unfinished") / str(version)
    exporter(unfinished, **arguments)
    base.mkdir(exist_ok=True)
    return unfinished.rename(base / str(version))


def spec(
    name: str = "m", signature: str = "", version: int | None = None, label: str | None = None
) -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        made.version.value = version
    if label is not None:
        made.version_label = label
    return made


def predict_request(
    model: model_pb2.ModelSpec | None, output_filter: tuple[str, ...] = (), /, **inputs: Any
) -> predict_pb2.PredictRequest:
    """Inputs are TensorProtos, or what TensorFlow makes one of; Python's floats are float32."""
    protos = {alias: tensor(value) for alias, value in inputs.items()}
    return predict_pb2.PredictRequest(model_spec=model, inputs=protos, output_filter=output_filter)


def tensor(value: Any) -> TensorProto:
    if isinstance(value, TensorProto):
        return value
    return tf.make_tensor_proto(value)


def example(**features: float) -> tf.train.Example:
    """An example with one float for each feature."""
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                for name, value in features.items()
            }
        )
    )


def classify_request(
    model: model_pb2.ModelSpec | None, *examples: tf.train.Example
) -> classification_pb2.ClassificationRequest:
    request = classification_pb2.ClassificationRequest(model_spec=model)
    request.input.example_list.examples.extend(examples)
    return request


def regress_request(
    model: model_pb2.ModelSpec | None, *examples: tf.train.Example
) -> regression_pb2.RegressionRequest:
    request = regression_pb2.RegressionRequest(model_spec=model)
    request.input.example_list.examples.extend(examples)
    return request


def multi_inference_request(
    *tasks: tuple[model_pb2.ModelSpec, str], examples: tuple[tf.train.Example, ...] = ()
) -> inference_pb2.MultiInferenceRequest:
    """A task is a model and the last word of its method: ``classify`` or ``regress``."""
    request = inference_pb2.MultiInferenceRequest()
    for model, method in tasks:
        request.tasks.add(model_spec=model, method_name=f"tensorflow/serving/{method}")
    request.input.example_list.examples.extend(examples)
    return request


def metadata_request(
    model: model_pb2.ModelSpec | None, *fields: str
) -> get_model_metadata_pb2.GetModelMetadataRequest:
    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model, metadata_field=fields)


def status_request(
    model: model_pb2.ModelSpec | None,
) -> get_model_status_pb2.GetModelStatusRequest:
    return get_model_status_pb2.GetModelStatusRequest(model_spec=model)


def reload_request(
    *models: Mapping[str, Any], metric_names: tuple[str, ...] = ()
) -> model_management_pb2.ReloadConfigRequest:
    """Each model is the fields of its ModelConfig; the platform is tensorflow unless given."""
    request = model_management_pb2.ReloadConfigRequest(metric_names=metric_names)
    request.config.model_config_list.SetInParent()
    for model in models:
        request.config.model_config_list.config.add(**{"model_platform": "tensorflow", **model})
    return request


def write_config(file: Path, bases: Mapping[str, Path]) -> Path:
    """A model config file that serves each model from its base path."""
    models = "".join(
        f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}\n'
        for name, base in bases.items()
    )
    # Whole at once: the server may be reading it.
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(f"model_config_list {{\n{models}}}\n")
    return unfinished.rename(file)


def grpc_code_name(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)
