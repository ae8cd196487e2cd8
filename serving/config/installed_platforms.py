"""Platforms that other distributions bring, as the entry points of their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from serving.core.errors import InvalidArgument
from serving.loaders.platform_table import PLATFORMS
from serving.loaders.platforms import AddedPlatform

GROUP = "model_server.platforms"
"""The group of entry points ``NAME = "module:Class"``."""


def installed_platforms() -> Mapping[str, AddedPlatform]:
    """The platforms of all installed distributions, by name; imports none of them.

    Raises InvalidArgument, naming the distributions, for a name that two of them have, or that is
    the server's own.
    """
    found: dict[str, AddedPlatform] = {}
    for point in entry_points(group=GROUP):
        name, distribution = point.name, point.dist.name if point.dist else "unknown"
        if name in PLATFORMS:
            raise InvalidArgument(
                f"platform '{name}' of the distribution {distribution} is the server's own"
            )
        added = AddedPlatform(point.value, distribution=distribution)
        if found.setdefault(name, added) != added:
            raise InvalidArgument(
                f"platform '{name}' is in the distributions {found[name].distribution} and "
                f"{distribution}"
            )
    return found
