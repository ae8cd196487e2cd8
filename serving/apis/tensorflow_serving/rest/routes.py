"""Which call a method and a request target name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from serving.core.errors import InvalidArgument
from serving.core.models import ModelSpec

_MODEL = r"(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
_POST = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_MODEL}:(?P<verb>classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_MODEL}(?:/(?P<verb>metadata))?",
    re.IGNORECASE | re.ASCII,
)
_LIST = "/v1/models"
_USUAL_LENGTH = 256
_HIGHEST_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Route:
    """A call and of what: ``predict``, ``classify``, ``regress``, ``metadata``, ``status``, or
    ``list``, of all models.
    """

    verb: str
    spec: ModelSpec

    @property
    def template(self) -> str:
        """The path with names for what differs from call to call."""
        path = "/v1/models/{model}" if self.spec.name else "/v1/models"
        if self.spec.version is not None:
            path += "/versions/{version}"
        elif self.spec.version_label is not None:
            path += "/labels/{label}"
        if self.verb in {"status", "list"}:
            return path
        return f"{path}/metadata" if self.verb == "metadata" else f"{path}:{self.verb}"


def is_api(target: str) -> bool:
    """Whether the target belongs to this API at all."""
    return target[:4].lower() == "/v1/"


def find_route(method: str, target: str) -> Route | None:
    """The call that ``target`` names (a path with its query, still percent-encoded), if any.

    The query is part of what must match, so a request that has one names no call. Raises
    InvalidArgument for a version that is no int64.
    """
    find = _remembered if len(target) <= _USUAL_LENGTH else _find
    return find(method, target)


def _find(method: str, target: str) -> Route | None:
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    match = pattern.fullmatch(target) if pattern else None
    if match is None:
        return None
    parts = match.groupdict()
    spec = ModelSpec(
        name=_decoded(parts["name"] or ""),
        version=_version(parts["version"]),
        version_label=_decoded(parts["label"]) if parts["label"] else None,
    )
    if method == "GET":
        if target.lower() == _LIST:
            return Route("list", spec)
        return Route("metadata" if parts["verb"] == "metadata" else "status", spec)
    # The pattern ignores case, the name of the verb does not.
    return Route(parts["verb"], spec) if parts["verb"].islower() else None


_remembered = lru_cache(maxsize=1024)(_find)
"""Clients ask for the same over and over."""


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    significant = digits.lstrip("0") or "0"
    if len(significant) > 19 or int(significant) > _HIGHEST_VERSION:
        raise InvalidArgument(f"Failed to convert version: {digits} to numeric.")
    return int(significant)
