"""The configured models, from the command line's one model or from a model config file."""

from __future__ import annotations

from collections.abc import Sequence

from tensorflow_serving.config import model_server_config_pb2

from serving.apis.tensorflow_serving.model_server_config import decode_model_configs
from serving.config.options import ServerOptions
from serving.config.text_proto import read_text_proto
from serving.core.errors import InvalidArgument
from serving.core.model_config import ModelConfig


def configured_models(options: ServerOptions) -> Sequence[ModelConfig]:
    """The models to serve now; a config file is read anew at each call.

    Raises NotFound or InvalidArgument for a file that is missing, does not parse or says nothing.
    """
    if not options.model_config_file:
        return [ModelConfig(options.model_name, options.model_base_path)]
    path = options.model_config_file
    configs = decode_model_configs(read_text_proto(path, model_server_config_pb2.ModelServerConfig))
    if configs is None:
        raise InvalidArgument(f"'{path}' has no model_config_list")
    return configs
