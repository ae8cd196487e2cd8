"""Platforms that the operator adds, as a file lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from serving.config.message_file import is_document, parse_document
from serving.config.text_proto import read_text
from serving.core.errors import InvalidArgument
from serving.loaders.platform_table import PLATFORMS
from serving.loaders.platforms import AddedPlatform

_KEYS = frozenset({"class", "options"})


def read_platforms(path: str) -> Mapping[str, AddedPlatform]:
    """The platforms of a JSON or YAML file, by name; none where ``path`` is empty.

    ``platforms`` maps each name to its ``class``, written ``module:Class``, and maybe ``options``,
    a mapping that the class is made with. Raises NotFound for a missing file, and InvalidArgument,
    naming file and platform, for one that says anything else.
    """
    if not path:
        return {}
    text = read_text(path)
    if not is_document(path, text):
        raise InvalidArgument(
            f"'{path}' is neither JSON nor, by its name, YAML; a PlatformConfigMap of TensorFlow "
            "Serving is not read: what it sets has flags"
        )
    document = parse_document(path, text)
    platforms = document.get("platforms") if isinstance(document, dict) else None
    if not isinstance(platforms, dict) or len(document) != 1:
        raise InvalidArgument(f"'{path}' must hold a mapping called platforms, and nothing else")
    return {str(name): _added(path, str(name), value) for name, value in platforms.items()}


def _added(path: str, name: str, value: Any) -> AddedPlatform:
    where = f"'{path}': platform '{name}'"
    if name in PLATFORMS:
        raise InvalidArgument(f"{where} is the server's own")
    if not isinstance(value, dict) or not value.keys() <= _KEYS:
        raise InvalidArgument(f"{where} must be a mapping of class and maybe options")
    target, options = value.get("class"), value.get("options")
    if not isinstance(target, str) or not re.fullmatch(r"[\w.]+:\w+", target):
        raise InvalidArgument(f"{where}: class must be module:Class, not {target!r}")
    if options is not None and not isinstance(options, dict):
        raise InvalidArgument(f"{where}: options must be a mapping, not {options!r}")
    return AddedPlatform(target, options)
