"""A client for Model Server and TensorFlow Serving: numpy arrays in and out, without TensorFlow.

Client and AsyncClient speak gRPC; RestClient and AsyncRestClient speak REST, and are in modules of
their own, ``rest_client`` and ``async_rest_client``, since they need the extra ``rest``.
"""

from model_server_client.async_client import AsyncClient
from model_server_client.client import Client
from model_server_client.errors import Code, ServerError
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
from model_server_client.retries import Retries

__all__ = [
    "All",
    "AsyncClient",
    "Client",
    "Code",
    "Latest",
    "ModelConfig",
    "ModelSpec",
    "Prediction",
    "Retries",
    "ServerError",
    "Signature",
    "State",
    "TensorInfo",
    "VersionStatus",
]
