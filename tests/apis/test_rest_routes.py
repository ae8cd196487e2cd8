"""Which method and target name which call."""

from __future__ import annotations

import pytest

from serving.apis.tensorflow_serving.rest.routes import Route, find_route, is_api
from serving.core.errors import InvalidArgument
from serving.core.models import ModelSpec


@pytest.mark.parametrize(
    ("method", "target", "verb", "spec"),
    [
        ("POST", "/v1/models/m:predict", "predict", ModelSpec("m")),
        ("POST", "/v1/models/m:classify", "classify", ModelSpec("m")),
        ("POST", "/v1/models/m/versions/7:regress", "regress", ModelSpec("m", 7)),
        ("POST", "/v1/models/m/versions/007:predict", "predict", ModelSpec("m", 7)),
        (
            "POST",
            f"/v1/models/m/versions/{2**63 - 1}:predict",
            "predict",
            ModelSpec("m", 2**63 - 1),
        ),
        (
            "POST",
            "/v1/models/m/labels/stable:predict",
            "predict",
            ModelSpec("m", version_label="stable"),
        ),
        ("POST", "/V1/Models/M:predict", "predict", ModelSpec("M")),
        ("POST", "/v1/models/a%2Fb%3Ac%20d:predict", "predict", ModelSpec("a/b:c d")),
        ("POST", "/v1/models/%C3%A9/labels/%C3%A9:predict", "predict", ModelSpec("é", None, "é")),
        ("POST", "/v1/models/m?x=1:predict", "predict", ModelSpec("m?x=1")),
        ("GET", "/v1/models/m", "status", ModelSpec("m")),
        ("GET", "/v1/models/m?x=1", "status", ModelSpec("m?x=1")),
        ("GET", "/v1/models/m/versions/7", "status", ModelSpec("m", 7)),
        ("GET", "/v1/models/m/labels/l", "status", ModelSpec("m", version_label="l")),
        ("GET", "/v1/models/m/metadata", "metadata", ModelSpec("m")),
        ("GET", "/v1/models/m/versions/7/metadata", "metadata", ModelSpec("m", 7)),
        ("GET", "/v1/models/m/METADATA", "status", ModelSpec("m")),
        ("GET", "/v1/models/metadata", "status", ModelSpec("metadata")),
        ("GET", "/v1/models", "list", ModelSpec("")),
        ("GET", "/V1/MODELS", "list", ModelSpec("")),
        ("GET", "/v1/models/versions/7", "status", ModelSpec("", 7)),
    ],
)
def test_a_target_names_a_call(method, target, verb, spec):
    assert find_route(method, target) == Route(verb, spec)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m:predict/"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/m/versions/x:predict"),
        ("POST", "/v1/models/m/versions/\u0667:predict"),
        ("POST", "/v1/models/m/versions/1/labels/l:predict"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/7"),
        ("HEAD", "/v1/models/m"),
        ("PUT", "/v1/models/m:predict"),
        ("DELETE", "/v1/models/m"),
        ("PATCH", "/v1/models/m"),
    ],
)
def test_other_targets_name_none(method, target):
    assert find_route(method, target) is None


@pytest.mark.parametrize("digits", [str(2**63), "9" * 5000])
def test_a_version_must_be_an_int64(digits):
    with pytest.raises(InvalidArgument) as refused:
        find_route("GET", f"/v1/models/m/versions/{digits}")
    assert refused.value.message == f"Failed to convert version: {digits} to numeric."


@pytest.mark.parametrize(
    ("target", "belongs"),
    [("/v1/", True), ("/V1/x?y", True), ("/v1", False), ("/", False), ("/v2/models", False)],
)
def test_the_api_is_what_lies_below_v1(target, belongs):
    assert is_api(target) is belongs
