"""Loads a version and tells how that went; runs in a process of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from serving.core.errors import ServingError
from serving.core.resources import RAM
from serving.core.servable import Servable, Signature, TensorInfo
from serving.core.servable_id import ServableId
from serving.inspection import document
from serving.loaders.platform import devices_of
from serving.loaders.platform_table import PLATFORMS
from serving.loaders.platforms import Platforms

_WITH_TENSORFLOW = {"tensorflow", "keras"}


class Wanted(TypedDict):
    """What is to be looked at. ``flags`` are those of a server that would serve it."""

    platform: str
    path: str
    name: str
    version: int
    flags: list[str]
    loads: bool
    signature_name: str
    host: str
    grpc_port: int
    rest_port: int


class Told(TypedDict):
    """The part of a :class:`document.Document` that takes a framework."""

    load: document.Load
    devices: list[str]
    signatures: list[document.Signature]
    signatures_from: str | None
    graphs: list[document.Graph]
    sample: document.Sample | None


def inspect(wanted: Wanted) -> Iterator[Told]:
    """A Work of :mod:`serving.work_in_child`: tells more after each step that might be the last.

    Raises what the framework's import raises; errors of the load are told.
    """
    _keep_out_tensorflow(wanted["platform"])
    platforms = _platforms(wanted)
    told = nothing_told()
    began = time.monotonic()
    platform = platforms.get(wanted["platform"])
    told["load"]["import_seconds"] = round(time.monotonic() - began, 3)
    told["devices"] = [str(device) for device in devices_of(platform)]
    if wanted["platform"] == "tensorflow":
        _look_at_saved_model(wanted["path"], told)
    told["load"]["attempted"] = wanted["loads"]
    yield told
    if not wanted["loads"]:
        return
    servable = _load(platform, wanted, told)
    if servable is None:
        yield told
        return
    told["signatures"], told["signatures_from"] = described(servable.signatures), "load"
    yield told
    # Both bring TensorFlow, where it is not kept out.
    from serving.inspection.sample_commands import Ports  # noqa: PLC0415
    from serving.inspection.samples import sample_of  # noqa: PLC0415

    ports = Ports(wanted["host"], wanted["grpc_port"], wanted["rest_port"])
    servable_id = ServableId(wanted["name"], wanted["version"])
    told["sample"] = sample_of(servable_id, servable, wanted["signature_name"], ports)
    yield told


def nothing_told() -> Told:
    """What is known before anything is."""
    return {
        "load": {
            "attempted": False,
            "loads": None,
            "error": None,
            "import_seconds": None,
            "seconds": None,
            "memory_bytes": None,
            "estimated_memory_bytes": None,
        },
        "devices": [],
        "signatures": [],
        "signatures_from": None,
        "graphs": [],
        "sample": None,
    }


def described(signatures: Mapping[str, Signature]) -> list[document.Signature]:
    """Signatures in the form of the document."""
    return [
        {
            "name": name,
            "method": signature.method_name,
            "inputs": _tensors(signature.inputs),
            "outputs": _tensors(signature.outputs),
            "batching": _batching(signature),
        }
        for name, signature in sorted(signatures.items())
    ]


def told_error(error: ServingError) -> document.Error:
    """An error in the form of the document."""
    return {"code": error.code.name, "message": error.message}


def _keep_out_tensorflow(platform: str) -> None:
    """Nothing imports TensorFlow in this process unless the platform computes with it.

    The APIs would, for its messages, and have their own where there is none.
    """
    if platform in PLATFORMS and platform not in _WITH_TENSORFLOW:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # "not installed", to Python


def _platforms(wanted: Wanted) -> Platforms:
    from serving.config.command_line import parse_command_line  # noqa: PLC0415  # late, as the
    from serving.config.configured_platforms import (  # noqa: PLC0415  # parent needs none of it
        configured_platforms,
    )
    from serving.config.options import server_options  # noqa: PLC0415

    flags = [*wanted["flags"], f"--model_base_path={wanted['path']}"]
    return configured_platforms(server_options(parse_command_line(flags)))


def _load(platform: Any, wanted: Wanted, told: Told) -> Servable | None:
    """None where it does not load, which is told."""
    load = told["load"]
    servable_id = ServableId(wanted["name"], wanted["version"])
    try:
        estimate = platform.estimate(wanted["path"])
        load["estimated_memory_bytes"] = estimate.quantities.get(RAM)
        before, began = _resident_bytes(), time.monotonic()
        servable: Servable = platform.load(servable_id, wanted["path"])
    except ServingError as error:
        load["loads"], load["error"] = False, told_error(error)
        return None
    load["seconds"] = round(time.monotonic() - began, 3)
    after = _resident_bytes()
    if before is not None and after is not None:
        load["memory_bytes"] = max(0, after - before)
    load["loads"] = True
    return servable


def _look_at_saved_model(path: str, told: Told) -> None:
    """What its file tells, which also is there where it does not load."""
    from serving.loaders.tensorflow_description import described_graphs  # noqa: PLC0415

    with suppress(ServingError):
        for graph in described_graphs(path):
            names = sorted(graph.signatures)
            told["graphs"].append(
                {"tags": graph.tags, "signatures": names, "operations": graph.operations}
            )
            if not told["signatures"] or "serve" in graph.tags:
                told["signatures"] = described(graph.signatures)
                told["signatures_from"] = "files"


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None  # no Linux
    return pages * os.sysconf("SC_PAGE_SIZE")


def _tensors(infos: Mapping[str, TensorInfo]) -> list[document.Tensor]:
    return [
        {
            "alias": alias,
            "dtype": f"DT_{info.dtype.name}",
            "shape": None if info.shape is None else list(info.shape),
            "tensor": info.name,
        }
        for alias, info in infos.items()
    ]


def _batching(signature: Signature) -> document.Batching:
    """Requests are joined by their first dimension."""
    if not signature.inputs:
        return {"possible": False, "reason": "it takes nothing"}
    for role, infos in (("input", signature.inputs), ("output", signature.outputs)):
        for alias, info in infos.items():
            if info.shape is None:
                continue  # which may be anything
            if not info.shape:
                return {"possible": False, "reason": f"{role} {alias!r} has no dimension"}
            if info.shape[0] is not None:
                size = info.shape[0]
                reason = f"the first dimension of {role} {alias!r} is {size}, not of any size"
                return {"possible": False, "reason": reason}
    return {"possible": True, "reason": ""}
