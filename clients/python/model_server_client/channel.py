"""What the channels of both gRPC clients have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
from google.protobuf.message import Message

from model_server_client.errors import Code, ServerError
from model_server_client.generated import tensorflow_serving_pb2 as messages
from model_server_client.retries import Retries, service_config

_CODES = {code.value[0]: Code(code.value[0]) for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Method:
    """A unary call: its path, and the class of its answers."""

    path: str
    answer: type[Message]


PREDICT = Method("/tensorflow.serving.PredictionService/Predict", messages.PredictResponse)
METADATA = Method(
    "/tensorflow.serving.PredictionService/GetModelMetadata", messages.GetModelMetadataResponse
)
STATUS = Method("/tensorflow.serving.ModelService/GetModelStatus", messages.GetModelStatusResponse)
RELOAD = Method(
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest", messages.ReloadConfigResponse
)
METHODS = (PREDICT, STATUS, METADATA, RELOAD)

NOTHING: Mapping[str, str] = MappingProxyType({})

Options = list[tuple[str, str | int]]


def channel_options(retries: Retries, longest_message: int) -> Options:
    """``longest_message`` in bytes, both ways; -1 for any."""
    return [
        ("grpc.service_config", service_config(retries)),
        ("grpc.max_send_message_length", longest_message),
        ("grpc.max_receive_message_length", longest_message),
        # A call of which gRPC keeps no copy is not tried again.
        ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        # A server that is started again is found again before the last attempt.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
    ]


def metadata_of(*mappings: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """As gRPC takes them: what a later mapping says stands for what an earlier one says."""
    merged: dict[str, str] = {}
    for mapping in mappings:
        merged.update({key.lower(): value for key, value in mapping.items()})
    return tuple(merged.items())


def server_error(code: grpc.StatusCode, details: str | None) -> ServerError:
    return ServerError(_CODES[code.value[0]], details or "")
