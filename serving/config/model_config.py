"""The configured models, from the command line's one model or from a model config file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format

from serving.apis.tensorflow_serving import config_messages as protos
from serving.apis.tensorflow_serving.model_server_config import decode_model_configs
from serving.config.options import ServerOptions
from serving.config.text_proto import parse_text_proto, read_text
from serving.core.errors import InvalidArgument
from serving.core.model_config import ModelConfig

_JSON = re.compile(r'\s*{\s*(["}]|$)')
"""How a JSON object begins; the text format never quotes the name of a field."""


def configured_models(options: ServerOptions) -> Sequence[ModelConfig]:
    """The models to serve now; a config file is read anew at each call.

    The file is a ModelServerConfig in protobuf's text format, the same in JSON, or, when its name
    ends in .yaml or .yml, in YAML. Raises NotFound or InvalidArgument, naming the file, for one
    that is missing, does not parse or says nothing.
    """
    if not options.model_config_file:
        return [ModelConfig(options.model_name, options.model_base_path)]
    path = options.model_config_file
    configs = decode_model_configs(_read(path))
    if configs is None:
        raise InvalidArgument(f"'{path}' has no model_config_list")
    return configs


def _read(path: str) -> protos.ModelServerConfig:
    text = read_text(path)
    if Path(path).suffix in (".yaml", ".yml"):
        return _from_document(path, _parse_yaml(path, text))
    if _JSON.match(text):
        return _from_document(path, _parse_json(path, text))
    return parse_text_proto(path, text, protos.ModelServerConfig)


def _parse_json(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"Invalid JSON file: '{path}': {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise InvalidArgument(f"Invalid JSON file: '{path}': nested too deeply") from None


def _parse_yaml(path: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidArgument(f"Invalid YAML file: '{path}': {error.problem}{where}") from None
    except yaml.YAMLError:
        raise InvalidArgument(f"Invalid YAML file: '{path}': not text") from None
    except RecursionError:
        raise InvalidArgument(f"Invalid YAML file: '{path}': nested too deeply") from None
    except ValueError as error:  # a number or a date that is none
        raise InvalidArgument(f"Invalid YAML file: '{path}': {error}") from None


def _from_document(path: str, document: Any) -> protos.ModelServerConfig:
    if not isinstance(document, dict):
        raise InvalidArgument(f"'{path}' has no model_config_list")
    config = protos.ModelServerConfig()
    models = document.get("model_config_list")
    if isinstance(models, list):
        document = {**document, "model_config_list": {"config": [_full(model) for model in models]}}
    try:
        json_format.ParseDict(document, config)
    except json_format.ParseError as error:
        raise InvalidArgument(f"'{path}' is no ModelServerConfig: {error}") from None
    return config


def _full(model: Any) -> Any:
    """A model of the short form, a plain list as simple_tensorflow_serving has it, in full.

    There the platform is called ``platform`` and may be left out.
    """
    if not isinstance(model, dict):
        return model
    platform = model.get("platform", model.get("model_platform", "tensorflow"))
    rest = {key: value for key, value in model.items() if key != "platform"}
    return {**rest, "model_platform": platform}
