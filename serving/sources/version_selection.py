"""Which children of a base path are versions, and which of them a policy wants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)

_NUMBER = re.compile(r"\s*-?[0-9]+\s*", re.ASCII)
_INT64 = range(-(2**63), 2**63)


def versions_among(children: Mapping[str, str]) -> list[tuple[int, str]]:
    """The versions among a directory's children, which are paths by name, each with its path.

    Sorted by version, then path. Two names may stand for one version ("1", "001").
    """
    numbered = [(int(name), path) for name, path in children.items() if _NUMBER.fullmatch(name)]
    return sorted((number, path) for number, path in numbered if number in _INT64)


def select(
    found: Sequence[tuple[int, str]],
    policy: VersionPolicy,
    is_complete: Callable[[str], bool] = lambda _path: True,
) -> list[tuple[int, str]]:
    """The versions that the policy wants, out of those found in ascending order and complete.

    No more of them are asked about than it takes. Where two paths stand for one version, the last
    in string order is taken; under :class:`AllVersions` both are, as in TensorFlow Serving, and
    managers keep the last.
    """
    if isinstance(policy, AllVersions):
        return [each for each in found if is_complete(each[1])]
    if isinstance(policy, SpecificVersions):
        found = [each for each in found if each[0] in policy.versions]
    most = policy.count if isinstance(policy, LatestVersions) else len(found)
    taken: dict[int, str] = {}
    for version, path in reversed(found):
        if len(taken) == most:
            break
        if version not in taken and is_complete(path):
            taken[version] = path
    return sorted(taken.items())


def oddities(
    children: Mapping[str, str], found: Sequence[tuple[int, str]], policy: VersionPolicy
) -> list[str]:
    """What an operator may have overlooked in these children, of which ``found`` are versions."""
    odd: list[str] = []
    if len(found) < len(children):
        odd += (
            f"{name} is no version, as it does not fit 64 bits"
            for name in children
            if _NUMBER.fullmatch(name) and int(name) not in _INT64
        )
    numbers = {number for number, _ in found}
    if len(numbers) < len(found):
        odd += _doubles(found)
    if isinstance(policy, SpecificVersions):
        missing = policy.versions - numbers
        odd += (f"version {version} was asked for but is not there" for version in missing)
    return odd


def _doubles(found: Sequence[tuple[int, str]]) -> Iterator[str]:
    for version, paths in groupby(found, key=lambda each: each[0]):
        *others, last = [path.rpartition("/")[2] for _, path in paths]
        if others:
            yield f"{', '.join(others)} and {last} stand for version {version}; {last} is taken"
