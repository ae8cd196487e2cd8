"""What is refused of a configuration before anything of it is in force."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from serving.core.errors import InvalidArgument
from serving.core.model_config import ModelConfig
from serving.loaders.platform_detection import DETECTED
from serving.loaders.platforms import Platforms
from serving.sources.storages import storage_for

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def check_configs(
    configs: Sequence[ModelConfig], in_force: Mapping[str, ModelConfig], platforms: Platforms
) -> None:
    """Raise InvalidArgument for a configuration that contradicts itself or the one in force, or
    names a base path or a platform that nobody here can load from.
    """
    for name, times in Counter(config.name for config in configs).items():
        if times > 1:
            raise InvalidArgument(f"Illegal to list model {name} multiple times in config list")
    for config in configs:
        _check_base_path(config)
        _check_platform(config, in_force.get(config.name), platforms)


def _check_base_path(config: ModelConfig) -> None:
    uri = _URI.match(config.base_path)
    if not config.base_path.startswith("/") and not uri:
        raise InvalidArgument(
            f"Expected model {config.name} to have an absolute path or URI; "
            f"got base_path()={config.base_path}"
        )
    if uri:
        storage_for(config.base_path)


def _check_platform(config: ModelConfig, served: ModelConfig | None, platforms: Platforms) -> None:
    # A platform that its files tell is what it was, whoever says it.
    named = {each.platform for each in (served, config) if each and each.platform != DETECTED}
    if served and len(named) > 1:
        raise InvalidArgument(
            f"Illegal to change a model's platform. For model {config.name} platform was "
            f"{served.platform} and new platform requested is {config.platform}"
        )
    if config.platform not in platforms:
        raise InvalidArgument(
            f"Model {config.name} requests unsupported platform {config.platform}"
        )
