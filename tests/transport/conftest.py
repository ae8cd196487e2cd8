"""Every test of the gRPC server holds for every engine."""

import pytest
from certificates import Authority

from serving.transport.grpc_options import ENGINES


@pytest.fixture(params=ENGINES)
def grpc_engine(request):
    """The name of the engine that carries the calls."""
    return request.param


@pytest.fixture(scope="session")
def old(tmp_path_factory):
    """The authority that is trusted at first."""
    return Authority(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="session")
def new(tmp_path_factory):
    """The one that takes its place."""
    return Authority(tmp_path_factory.mktemp("new"))
