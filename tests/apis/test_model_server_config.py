"""ModelServerConfig text as people write it, and the models it configures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2
from tensorflow_serving.config.logging_config_pb2 import SamplingConfig

from serving.apis.tensorflow_serving.model_server_config import decode_model_configs
from serving.core.errors import InvalidArgument
from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    LoggingConfig,
    ModelConfig,
    SpecificVersions,
    TaskSampling,
)


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


def test_what_is_to_be_logged_is_read():
    found = decode_one(
        f"""{TENSORFLOW} logging_config {{
          log_collector_config {{ type: "tfrecord" filename_prefix: "/logs/m" }}
          sampling_config {{
            sampling_rate: 0.25
            per_task_sampling_configs {{ dc: "ab" task_index: 0 sampling_rate: 0.5 }}
            per_task_sampling_configs {{ sampling_rate: 1 }}
          }}
        }}"""
    ).logging
    sampling = SamplingConfig.FromString(found.encoded_sampling)
    assert (sampling.sampling_rate, len(sampling.per_task_sampling_configs)) == (0.25, 2)
    assert replace(found, encoded_sampling=b"") == LoggingConfig(
        "tfrecord", "/logs/m", 0.25, (TaskSampling("ab", 0, 0.5), TaskSampling("", None, 1.0))
    )


def test_without_a_logging_config_nothing_is_logged():
    assert decode_one(TENSORFLOW).logging is None


def test_a_logging_config_of_ones_own_is_refused():
    with pytest.raises(InvalidArgument) as raised:
        decode_one(f"{TENSORFLOW} logging_config {{ custom_logging_config {{}} }}")
    assert raised.value.message == (
        "Model m: logging_config.custom_logging_config is not supported"
    )
