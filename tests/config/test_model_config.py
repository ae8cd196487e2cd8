"""One configuration, written in protobuf's text format, in JSON or in YAML."""

import dataclasses
import json
from pathlib import Path

import pytest

from serving.config.command_line import parse_command_line
from serving.config.model_config import configured_models
from serving.config.options import ServerOptions, server_options
from serving.core.errors import InvalidArgument, NotFound
from serving.core.model_config import AllVersions, ModelConfig, SpecificVersions

TEXT = """
model_config_list {
  config {
    name: "a"
    base_path: "/models/a"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 3 versions: 42 } }
    version_labels { key: "stable" value: 42 }
  }
  config {
    name: "b" base_path: "/models/b" model_platform: "hashmap" model_version_policy { all {} }
  }
}
"""
DOCUMENT = {
    "model_config_list": {
        "config": [
            {
                "name": "a",
                "base_path": "/models/a",
                "model_platform": "tensorflow",
                "model_version_policy": {"specific": {"versions": [3, 42]}},
                "version_labels": {"stable": 42},
            },
            {
                "name": "b",
                "base_path": "/models/b",
                "model_platform": "hashmap",
                "model_version_policy": {"all": {}},
            },
        ]
    }
}
YAML = """
model_config_list:
  config:
    - name: a
      base_path: /models/a
      model_platform: tensorflow
      model_version_policy: {specific: {versions: [3, 42]}}
      version_labels: {stable: 42}
    - {name: b, base_path: /models/b, model_platform: hashmap, model_version_policy: {all: {}}}
"""
EXPECTED = [
    ModelConfig(
        "a", "/models/a", "tensorflow", SpecificVersions(frozenset({3, 42})), {"stable": 42}
    ),
    ModelConfig("b", "/models/b", "hashmap", AllVersions()),
]


@pytest.fixture
def options() -> ServerOptions:
    return server_options(parse_command_line(["--model_name=m", "--model_base_path=/models/m"]))


def with_file(options: ServerOptions, path: Path, text: str | bytes) -> ServerOptions:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return dataclasses.replace(options, model_config_file=str(path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("models.config", TEXT),
        ("models.config", json.dumps(DOCUMENT)),
        ("models.json", json.dumps(DOCUMENT, indent=1)),
        ("models.yaml", YAML),
        ("models.yml", YAML),
    ],
)
def test_every_form_says_the_same(
    options: ServerOptions, tmp_path: Path, name: str, text: str
) -> None:
    assert configured_models(with_file(options, tmp_path / name, text)) == EXPECTED


def test_without_a_file_there_is_the_one_model_of_the_command_line(options: ServerOptions) -> None:
    assert configured_models(options) == [ModelConfig("m", "/models/m")]


@pytest.mark.parametrize("platform", ["onnx", ""])
def test_the_model_of_the_command_line_may_be_of_another_platform(platform: str) -> None:
    flags = parse_command_line(["--model_base_path=/models/m", f"--model_platform={platform}"])
    (model,) = configured_models(server_options(flags))
    assert model.platform == platform


def test_a_plain_list_may_name_the_platform_shortly_or_not_at_all(
    options: ServerOptions, tmp_path: Path
) -> None:
    models = [
        {"name": "a", "base_path": "/a"},
        {"name": "b", "base_path": "/b", "platform": "hashmap"},
        {"name": "c", "base_path": "/c", "platform": "scikitlearn"},
    ]
    file = with_file(options, tmp_path / "m.json", json.dumps({"model_config_list": models}))
    assert configured_models(file) == [
        ModelConfig("a", "/a", platform=""),
        ModelConfig("b", "/b", "hashmap"),
        ModelConfig("c", "/c", "sklearn"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.config", "", "'{path}' has no model_config_list"),
        ("m.config", "{}", "'{path}' has no model_config_list"),
        ("m.yaml", "", "'{path}' has no model_config_list"),
        ("m.yaml", "- a\n", "'{path}' has no model_config_list"),
        (
            "m.config",
            'model_config_list { config { name: "a',
            "Invalid protobuf file: '{path}': Error parsing text-format "
            "tensorflow.serving.ModelServerConfig at line 1, column 36",
        ),
        (
            "m.config",
            "not a config",
            "Invalid protobuf file: '{path}': Error parsing text-format "
            "tensorflow.serving.ModelServerConfig at line 1, column 1",
        ),
        ("m.config", b"\xff\x00\xfe", "Invalid protobuf file: '{path}': not UTF-8 text"),
        (
            "m.json",
            '{"model_config_list": {',
            "Invalid JSON file: '{path}': Expecting property name enclosed in double quotes "
            "at line 1, column 24",
        ),
        (
            "m.yaml",
            "a: [1\n",
            "Invalid YAML file: '{path}': expected ',' or ']', but got '<stream end>' "
            "at line 2, column 1",
        ),
        ("m.json", '{"a":' * 100_000, "Invalid JSON file: '{path}': nested too deeply"),
        ("m.yaml", "[" * 10_000, "Invalid YAML file: '{path}': nested too deeply"),
        ("m.yaml", "a: 2020-99-99\n", "Invalid YAML file: '{path}': month must be in 1..12"),
        ("m.yaml", "\x01", "Invalid YAML file: '{path}': not text"),
        (
            "m.json",
            '{"model_config_list": {"config": [{"nome": "a"}]}}',
            "'{path}' is no ModelServerConfig: ",
        ),
        ("m.json", '{"model_config_list": [7]}', "'{path}' is no ModelServerConfig: "),
    ],
)
def test_what_does_not_parse_names_the_file_and_the_place(
    options: ServerOptions, tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    path = tmp_path / name
    with pytest.raises(InvalidArgument) as raised:
        configured_models(with_file(options, path, text))
    expected = message.format(path=path)
    if message.endswith(": "):
        assert raised.value.message.startswith(expected)
    else:
        assert raised.value.message == expected


def test_a_missing_file_is_not_found(options: ServerOptions, tmp_path: Path) -> None:
    missing = dataclasses.replace(options, model_config_file=str(tmp_path / "missing"))
    with pytest.raises(NotFound, match="No such file or directory"):
        configured_models(missing)
