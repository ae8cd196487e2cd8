"""ModelServerConfig text as people write it, and the models it configures."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.apis.tensorflow_serving.model_server_config import decode_model_configs
from serving.core.errors import InvalidArgument
from serving.core.model_config import AllVersions, LatestVersions, ModelConfig, SpecificVersions


def decode(text: str) -> list[ModelConfig] | None:
    return decode_model_configs(
        text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    )


def decode_one(fields: str) -> ModelConfig:
    (config,) = decode(f'model_config_list {{ config {{ name: "m" {fields} }} }}')
    return config


TENSORFLOW = 'model_platform: "tensorflow"'


def test_models_are_listed_in_their_order():
    configs = decode(
        """
        model_config_list {
          config { name: "b" base_path: "/models/b" model_platform: "tensorflow" }
          config { name: "a" base_path: "s3://bucket/a" model_platform: "onnx" }
        }
        """
    )
    assert configs == [
        ModelConfig("b", "/models/b", "tensorflow", LatestVersions(1), {}),
        ModelConfig("a", "s3://bucket/a", "onnx", LatestVersions(1), {}),
    ]


def test_an_unset_config_is_told_from_an_empty_list():
    assert decode("") is None
    assert decode("model_config_list {}") == []


def test_a_custom_config_is_refused():
    with pytest.raises(InvalidArgument, match="not custom_model_config"):
        decode('custom_model_config { type_url: "type.googleapis.com/x" }')


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", LatestVersions(1)),
        ("model_version_policy {}", LatestVersions(1)),
        ("model_version_policy { latest {} }", LatestVersions(1)),
        ("model_version_policy { latest { num_versions: 0 } }", LatestVersions(1)),
        ("model_version_policy { latest { num_versions: 3 } }", LatestVersions(3)),
        ("model_version_policy { all {} }", AllVersions()),
        (
            "model_version_policy { specific { versions: 9 versions: 4 } }",
            SpecificVersions(frozenset({4, 9})),
        ),
        ("model_version_policy { specific {} }", SpecificVersions(frozenset())),
    ],
)
def test_version_policies(policy, expected):
    assert decode_one(f"{TENSORFLOW} {policy}").version_policy == expected


def test_labels():
    labels = 'version_labels { key: "stable" value: 4 } version_labels { key: "canary" value: 5 }'
    assert decode_one(f"{TENSORFLOW} {labels}").version_labels == {"stable": 4, "canary": 5}


def test_the_older_model_type_names_the_platform(caplog):
    assert decode_one("model_type: TENSORFLOW").platform == "tensorflow"
    assert "model_type is deprecated" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            "",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) "
            "nor ModelServerConfig::model_platform, model name is m",
        ),
        (
            f"model_type: TENSORFLOW {TENSORFLOW}",
            "Illegal setting both ModelServerConfig::model_type (deprecated) "
            "and ModelServerConfig::model_platform.",
        ),
        ("model_type: OTHER", "ModelServerConfig::model_type choice 2 not supported."),
    ],
)
def test_a_platform_is_named_once(fields, message):
    with pytest.raises(InvalidArgument) as raised:
        decode_one(fields)
    assert raised.value.message == message


def test_a_wish_for_logging_does_not_pass_in_silence(caplog):
    decode_one(f"{TENSORFLOW} logging_config {{}}")
    assert "model m: logging_config is ignored" in caplog.text
