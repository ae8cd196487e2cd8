"""Everything that can be told of a model, by looking at its files and loading it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.core.errors import ServingError
from serving.inspection.document import FORMAT, Document
from serving.inspection.loading import Told, Wanted, nothing_told, told_error
from serving.inspection.model_path import (
    ModelPath,
    as_version,
    find_model,
    platform_of_model,
    size_of,
)
from serving.work_in_child import work_in_child

_WORK = "serving.inspection.loading:inspect"
_NVIDIA = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Examination:
    """What to do beyond looking: ``platform`` empty is told from the files, ``name`` empty from the
    path, ``signature_name`` empty is the default. ``server_flags`` say how a server would load it.
    """

    platform: str = ""
    name: str = ""
    signature_name: str = ""
    loads: bool = True
    timeout_seconds: float | None = None
    server_flags: Sequence[str] = ()
    host: str = "localhost"
    grpc_port: int = 8500
    rest_port: int = 8501


def examine(path: str, how: Examination) -> Document:
    """Look at the model, and load it in a process of its own.

    Raises the errors of :func:`find_model`; what is wrong with the model itself is told.
    """
    model = find_model(path)
    document = _looked_at(path, model, how)
    try:
        platform = how.platform or platform_of_model(model)
    except ServingError as error:
        document["error"] = told_error(error)
        return document
    document["platform"] = platform
    with as_version(model) as directory:
        wanted: Wanted = {
            "platform": platform,
            "path": directory,
            "name": document["name"],
            "version": model.version or 1,
            "flags": list(how.server_flags),
            "loads": how.loads,
            "signature_name": how.signature_name,
            "host": how.host,
            "grpc_port": how.grpc_port,
            "rest_port": how.rest_port,
        }
        outcome = work_in_child(_WORK, wanted, how.timeout_seconds)
    told: Told = outcome.told or nothing_told()
    if outcome.error:
        _blame(outcome.error, told, document)
    return {**document, **told}


def _looked_at(path: str, model: ModelPath, how: Examination) -> Document:
    num_files, size_bytes = size_of(model)
    return {
        "format": FORMAT,
        "path": path,
        "kind": model.kind,
        "name": how.name or model.name,
        "version": model.version,
        "versions": list(model.versions),
        "version_path": str(model.path),
        "num_files": num_files,
        "size_bytes": size_bytes,
        "platform": None,
        "candidates": model.platforms,
        "error": None,
        "machine_gpus": _gpus(),
        **nothing_told(),
    }


def _blame(error: ServingError, told: Told, document: Document) -> None:
    """Where the process did not come to its end: on the step that it was at."""
    if told["load"]["loads"]:
        document["error"] = told_error(error)
    else:
        told["load"]["loads"], told["load"]["error"] = False, told_error(error)


def _gpus() -> list[str]:
    """The names of this machine's GPUs, as NVIDIA's driver for Linux tells them."""
    names = []
    for information in sorted(_NVIDIA.glob("*/information")):
        fields = dict(
            line.split(":", 1) for line in information.read_text().splitlines() if ":" in line
        )
        names.append(fields.get("Model", "unknown").strip())
    return names
