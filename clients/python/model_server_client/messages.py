"""Requests as messages, and what the messages of answers say: no connection in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from google.protobuf import text_format

from model_server_client.errors import Code, ServerError
from model_server_client.generated.tensorflow_framework_pb2 import TensorInfo as TensorInfoMessage
from model_server_client.generated.tensorflow_serving_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelServerConfig,
    PredictRequest,
    PredictResponse,
    ReloadConfigRequest,
    ReloadConfigResponse,
    SignatureDefMap,
)
from model_server_client.generated.tensorflow_serving_pb2 import ModelSpec as ModelSpecMessage
from model_server_client.models import (
    All,
    Latest,
    ModelConfig,
    ModelSpec,
    Prediction,
    Signature,
    State,
    TensorInfo,
    VersionStatus,
)
from model_server_client.tensors import array_of, dtype_of, tensor_proto

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def predict_request(
    model: ModelSpec, inputs: Mapping[str, ArrayLike], outputs: Iterable[str]
) -> PredictRequest:
    """Raises TypeError for an input whose elements have no type in TensorFlow."""
    request = PredictRequest(model_spec=_spec(model), output_filter=outputs)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tensor_proto(name, value))
    return request


def prediction(response: PredictResponse) -> Prediction:
    """The outputs, and the model as the server names it.

    Raises ServerError with INTERNAL for an output that numpy cannot have.
    """
    spec = response.model_spec
    version = spec.version.value if spec.HasField("version") else None
    try:
        outputs = {name: array_of(message) for name, message in response.outputs.items()}
    except ValueError as error:
        raise ServerError(Code.INTERNAL, f"an output can not be read: {error}") from error
    return Prediction(outputs, ModelSpec(spec.name, version, signature=spec.signature_name))


def status_request(model: ModelSpec) -> GetModelStatusRequest:
    return GetModelStatusRequest(model_spec=_spec(model))


def version_statuses(response: GetModelStatusResponse) -> tuple[VersionStatus, ...]:
    return tuple(
        VersionStatus(
            status.version,
            State(status.state),
            Code(status.status.error_code),
            status.status.error_message,
        )
        for status in response.model_version_status
    )


def metadata_request(model: ModelSpec) -> GetModelMetadataRequest:
    return GetModelMetadataRequest(model_spec=_spec(model), metadata_field=["signature_def"])


def signatures_of(response: GetModelMetadataResponse) -> dict[str, Signature]:
    # The server packs its own SignatureDefMap; ours has another full name, so Any cannot unpack it.
    return signatures(SignatureDefMap.FromString(response.metadata["signature_def"].value))


def signatures(message: SignatureDefMap) -> dict[str, Signature]:
    """By name."""
    return {
        name: Signature(
            inputs={alias: _tensor_info(info) for alias, info in signature.inputs.items()},
            outputs={alias: _tensor_info(info) for alias, info in signature.outputs.items()},
            method=signature.method_name,
        )
        for name, signature in message.signature_def.items()
    }


def reload_request(models: Iterable[ModelConfig] | str) -> ReloadConfigRequest:
    """``models`` are what is to be served from now on, or the text of a model config file.

    Raises ValueError for a text that is none.
    """
    if isinstance(models, str):
        config = ModelServerConfig()
        try:
            text_format.Parse(models, config)
        except text_format.ParseError as error:
            raise ValueError(f"not the text of a ModelServerConfig: {error}") from None
        return ReloadConfigRequest(config=config)
    request = ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for model in models:
        _add(request.config, model)
    return request


def check_reload(response: ReloadConfigResponse) -> None:
    """Raises ServerError where the answer holds an error."""
    if response.status.error_code:
        raise ServerError(Code(response.status.error_code), response.status.error_message)


def _spec(model: ModelSpec) -> ModelSpecMessage:
    spec = ModelSpecMessage(name=model.name, signature_name=model.signature)
    if model.version is not None:
        spec.version.value = model.version
    elif model.label is not None:
        spec.version_label = model.label
    return spec


def _tensor_info(message: TensorInfoMessage) -> TensorInfo:
    shape = message.tensor_shape
    sizes = tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return TensorInfo(dtype_of(message.dtype), None if shape.unknown_rank else sizes)


def _add(config: ModelServerConfig, model: ModelConfig) -> None:
    message = config.model_config_list.config.add(
        name=model.name,
        base_path=model.base_path,
        model_platform=model.platform,
        version_labels=model.labels,
    )
    policy = message.model_version_policy
    match model.versions:
        case Latest(count):
            policy.latest.num_versions = count
        case All():
            policy.all.SetInParent()
        case versions:
            policy.specific.versions.extend(versions)
