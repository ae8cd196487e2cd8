"""What the REST gateway says of models: their versions and their signatures."""

from __future__ import annotations

import json

import pytest
from rest_models import FakeModels, ask, error_body, signature

from serving.apis.tensorflow_serving.rest.rest_api import RestApi
from serving.core.dtypes import DType
from serving.core.errors import (
    NotFound,
)
from serving.testing import FakeServable, InlineExecutor

STATUS = """{
 "model_version_status": [
  {
   "version": "124",
   "state": "END",
   "status": {
    "error_code": "INTERNAL",
    "error_message": "no \\"op\\""
   }
  },
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
"""


def test_the_status_lists_every_version(api):
    response = ask(api, "GET", "/v1/models/m")
    assert (response.status, response.body) == (200, STATUS)
    assert response.headers["content-type"] == "application/json"


def test_the_status_ignores_labels(api):
    assert ask(api, "GET", "/v1/models/m/labels/unknown").body == STATUS


def test_the_status_of_one_version(api):
    document = json.loads(ask(api, "GET", "/v1/models/m/versions/123").body)
    assert [entry["version"] for entry in document["model_version_status"]] == ["123"]


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/v1/models/n", 404, "Could not find any versions of model n"),
        ("/v1/models/m/versions/7", 404, "Could not find version 7 of model m"),
        ("/v1/models/versions/7", 400, "Missing model name in request."),
        ("/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("/v1/models/n/metadata", 404, "Servable not found for request: Latest(n)"),
        ("/v1/models/m?x=1", 404, "Could not find any versions of model m?x=1"),
    ],
)
def test_a_bad_get_is_refused_with_its_text(api, target, status, message):
    response = ask(api, "GET", target)
    assert (response.status, response.body) == (status, error_body(message))


def test_the_list_has_every_configured_model_and_the_states_of_its_versions(models):
    class Listed(FakeModels):
        def versions(self, name):
            if name == "none":
                raise NotFound("nothing was found there")
            return super().versions(name)

    models = Listed(m=FakeServable(), none=FakeServable())
    response = ask(RestApi(models, executor=InlineExecutor()), "GET", "/v1/models")
    assert response.status == 200
    assert json.loads(response.body) == {
        "models": [
            {"name": "m", **json.loads(STATUS)},
            {"name": "none", "model_version_status": []},
        ]
    }


def test_metadata_prints_every_field_of_every_signature(models):
    plain = signature({"x": DType.FLOAT}, {}, "predict")
    models.servables["m"] = FakeServable(signatures={"s": plain})
    response = ask(RestApi(models, executor=InlineExecutor()), "GET", "/v1/models/m/metadata")
    assert response.status == 200
    assert json.loads(response.body) == {
        "model_spec": {"name": "m", "signature_name": "", "version": "123"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "s": {
                        "inputs": {
                            "x": {
                                "dtype": "DT_FLOAT",
                                "tensor_shape": {
                                    "dim": [{"size": "-1", "name": ""}],
                                    "unknown_rank": False,
                                },
                                "name": "x:0",
                            }
                        },
                        "outputs": {},
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    }
                }
            }
        },
    }
