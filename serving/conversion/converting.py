"""Converts a model: whole and verified at its destination, or not there at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from serving.conversion.routes import Route, route_for
from serving.conversion.source_kind import kind_of
from serving.conversion.verification import Tolerance, Verified
from serving.core.errors import AlreadyExists, InvalidArgument, ServingError
from serving.inspection.model_path import ModelPath, as_version, find_model, platform_of_model
from serving.sources.version_selection import versions_among
from serving.work_in_child import work_in_child

_WORK = "serving.conversion.work:convert"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What to do: ``platform`` empty is told from the source's files; with ``replaces``, what is at
    the destination goes. ``server_flags`` say how a server would load the source.
    """

    source: str
    destination: str
    to: str
    platform: str = ""
    replaces: bool = False
    tolerance: Tolerance = field(default_factory=Tolerance)
    timeout_seconds: float | None = None
    server_flags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Converted:
    """Where the new version is, by which route, and how it compares; or why there is none.

    ``kept`` is what was at the destination, where it is replaced but could not be removed.
    """

    path: Path
    route: Route
    verified: Verified
    error: ServingError | None = None
    kept: Path | None = None


def convert(wanted: Conversion) -> Converted:
    """Convert, compare, and put the version in its place; all of it in a process of its own.

    Raises ServingErrors for what is wrong with the arguments, and OSError where the destination can
    not be written; what is wrong with the model is the outcome. Either way nothing has changed at
    the destination.
    """
    model = find_model(wanted.source)
    platform = wanted.platform or platform_of_model(model)
    target = version_path(Path(wanted.destination))
    with as_version(model) as directory:
        route = route_for(kind_of(platform, directory), wanted.to)
        _check(model, target, replaces=wanted.replaces)
        with _unfinished(target) as unfinished:
            outcome = work_in_child(
                _WORK,
                {
                    "kind": route.source,
                    "platform": platform,
                    "source": directory,
                    "to": route.to,
                    "target": str(unfinished),
                    "flags": list(wanted.server_flags),
                    "relative_tolerance": wanted.tolerance.relative,
                    "absolute_tolerance": wanted.tolerance.absolute,
                },
                wanted.timeout_seconds,
            )
            if outcome.error:
                return Converted(target, route, Verified(), outcome.error)
            kept = _place(unfinished, target)
    return Converted(target, route, Verified(**outcome.told), kept=kept)


def version_path(destination: Path) -> Path:
    """The version's directory: the destination where that is a number, else the next in it."""
    destination = destination.absolute()
    if destination.name.isascii() and destination.name.isdigit():
        return destination
    there = destination.iterdir() if destination.is_dir() else ()
    versions = versions_among({child.name: str(child) for child in there})
    return destination / str(versions[-1][0] + 1 if versions else 1)


def _check(model: ModelPath, target: Path, *, replaces: bool) -> None:
    source, resolved = model.path.resolve(), target.resolve()
    if resolved == source or resolved.is_relative_to(source) or source.is_relative_to(resolved):
        raise InvalidArgument(f"{target} lies inside of what is converted, or around it")
    if target.is_dir() and not any(target.iterdir()):
        return
    if os.path.lexists(target) and not replaces:
        raise AlreadyExists(f"{target} is there already; --force replaces it")


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A directory beside the target, which goes at the end, if it is still there.

    Servers pass over its name, which is no number.
    """
    missing = [folder for folder in target.parents if not folder.exists()]
    path = _beside(target)
    try:
        path.mkdir(parents=True)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # they hold something now, which is as it should be
            for folder in missing:
                folder.rmdir()


def _place(unfinished: Path, target: Path) -> Path | None:
    """Have the target be this directory: what is there goes first, as no system swaps the two.

    Returns what is left of that: the new version is in place, whether the old one goes or not.
    """
    if not os.path.lexists(target):
        unfinished.rename(target)
        return None
    before = target.rename(_beside(target))
    try:
        unfinished.rename(target)
    except OSError:
        before.rename(target)
        raise
    if before.is_dir() and not before.is_symlink():
        shutil.rmtree(before, ignore_errors=True)
    else:
        with suppress(OSError):
            before.unlink()
    return before if os.path.lexists(before) else None


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}-{uuid4().hex[:8]}")
