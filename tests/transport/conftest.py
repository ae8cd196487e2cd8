"""Every test of the gRPC server holds for every engine."""

import pytest

from serving.transport.grpc_options import ENGINES


@pytest.fixture(params=ENGINES)
def grpc_engine(request):
    """The name of the engine that carries the calls."""
    return request.param
