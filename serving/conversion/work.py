"""Converts a version and compares the two; runs in a process of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, cast

from serving.config.command_line import parse_command_line
from serving.config.configured_platforms import configured_platforms
from serving.config.options import ServerOptions, server_options
from serving.conversion.routes import Route, route_for
from serving.conversion.verification import Tolerance, verify
from serving.core.errors import FailedPrecondition, ResourceExhausted
from serving.core.extras import remedy
from serving.core.servable_id import ServableId

Convert = Callable[[str, Path, str, ServerOptions], None]
"""Reads the version in a directory and writes one into another directory, which is empty.

The third argument is the format to write. Raises ServingErrors for a model that it does not take.
"""

_CONVERTED = ServableId("converted", 1)


class Wanted(TypedDict):
    """What is to be done. ``flags`` are those of a server that would serve the source."""

    kind: str
    platform: str
    source: str
    to: str
    target: str
    flags: list[str]
    relative_tolerance: float
    absolute_tolerance: float


def convert(wanted: Wanted) -> Iterator[Any]:
    """A Work of :mod:`serving.work_in_child`: tells the fields of a Verified.

    Raises what the converter, the platforms and :func:`verify` raise.
    """
    flags = [*wanted["flags"], f"--model_base_path={wanted['source']}"]
    options = server_options(parse_command_line(flags))
    platforms = configured_platforms(options)
    route = route_for(wanted["kind"], wanted["to"])
    # Before anything is written: what does not load is told in the words of a server.
    source = platforms.get(wanted["platform"]).load(_CONVERTED, wanted["source"])
    try:
        _convert(route, wanted, options)
    except OSError as error:
        raise ResourceExhausted(f"the model can not be written: {error.strerror}") from error
    made = platforms.get(route.platform).load(_CONVERTED, wanted["target"])
    tolerance = Tolerance(wanted["relative_tolerance"], wanted["absolute_tolerance"])
    yield asdict(verify(source, made, tolerance))


def _convert(route: Route, wanted: Wanted, options: ServerOptions) -> None:
    module, _, name = route.target.partition(":")
    try:
        function = cast(Convert, getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        text = f"that needs {library}, which is not installed"
        raise FailedPrecondition(
            f"{text}: {remedy(route.extra)}" if route.extra else text
        ) from error
    function(wanted["source"], Path(wanted["target"]), route.to, options)
