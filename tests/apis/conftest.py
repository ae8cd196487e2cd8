"""A REST gateway over one model, for the tests that have no models of their own."""

from collections.abc import Iterator

import pytest
from rest_models import SIGNATURES, FakeModels, compute

from serving.apis.tensorflow_serving.rest.rest_api import RestApi
from serving.testing import FakeServable, InlineExecutor


@pytest.fixture
def models() -> Iterator[FakeModels]:
    """The models of the tests; what they lend must have been given back in the end."""
    models = FakeModels(m=FakeServable(compute, SIGNATURES))
    yield models
    assert models.lent == 0


@pytest.fixture
def api(models) -> RestApi:
    return RestApi(models, executor=InlineExecutor())
