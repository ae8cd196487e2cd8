"""What clients see does not depend on the engine that carries their calls."""

from __future__ import annotations

import pytest

from serving.transport.grpc_options import ENGINES


@pytest.fixture(scope="module", params=ENGINES)
def grpc_engine(request: pytest.FixtureRequest) -> str:
    """The flag that chooses the engine; a module that asks for it runs once with each."""
    return f"--grpc_engine={request.param}"
