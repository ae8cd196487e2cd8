"""The configured models, from the command line's one model or from a model config file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format

from serving.apis.tensorflow_serving import config_messages as protos
from serving.apis.tensorflow_serving.model_server_config import decode_model_configs
from serving.config.message_file import is_document, parse_document
from serving.config.options import ServerOptions
from serving.config.text_proto import parse_text_proto, read_text
from serving.core.errors import InvalidArgument
from serving.core.model_config import ModelConfig


def configured_models(options: ServerOptions) -> Sequence[ModelConfig]:
    """The models to serve now; a config file is read anew at each call.

    The file is a ModelServerConfig in protobuf's text format, the same in JSON, or, when its name
    ends in .yaml or .yml, in YAML. Raises NotFound or InvalidArgument, naming the file, for one
    that is missing, does not parse or says nothing.
    """
    if not options.model_config_file:
        return [
            ModelConfig(
                options.model_name, options.model_base_path, platform=options.model_platform
            )
        ]
    path = options.model_config_file
    configs = decode_model_configs(_read(path), detects_platforms=True)
    if configs is None:
        raise InvalidArgument(f"'{path}' has no model_config_list")
    return configs


def _read(path: str) -> protos.ModelServerConfig:
    text = read_text(path)
    if is_document(path, text):
        return _from_document(path, parse_document(path, text))
    return parse_text_proto(path, text, protos.ModelServerConfig)


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

    There the platform is called ``platform``, and scikit-learn's has a name of its own.
    """
    if not isinstance(model, dict):
        return model
    platform = model.get("platform", model.get("model_platform", ""))
    platform = "sklearn" if platform == "scikitlearn" else platform
    rest = {key: value for key, value in model.items() if key != "platform"}
    return {**rest, "model_platform": platform}
