"""The services that Ray's gRPC proxies pass on to the replicas, as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc

SERVICES: Mapping[str, Sequence[str]] = {
    "tensorflow.serving.PredictionService": (
        "Predict",
        "Classify",
        "Regress",
        "MultiInference",
        "GetModelMetadata",
    ),
    "tensorflow.serving.ModelService": ("GetModelStatus", "HandleReloadConfigRequest"),
}
"""The names of the methods by service. Ray knows methods by their own name alone."""


def add_services_to_server(servicer: object, server: grpc.Server) -> None:
    """For ``grpc_servicer_functions`` of Ray's gRPC options: adds all of :data:`SERVICES`.

    Takes the place of the functions that come with the messages. These would have every proxy
    import TensorFlow, make messages of the requests, and pickle them for the replica.
    """
    for service, methods in SERVICES.items():
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.unary_unary_rpc_method_handler(getattr(servicer, method))
            for method in methods
        }
        handler = grpc.method_handlers_generic_handler(service, handlers)
        server.add_generic_rpc_handlers((handler,))
