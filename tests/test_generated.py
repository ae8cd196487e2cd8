"""Generated code is what scripts/generate makes of protos/, and lives beside other packages."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = ROOT / "serving" / "generated"
CLIENTS = ROOT / "clients" / "python" / "model_server_client" / "generated"
needs_compiler = pytest.mark.skipif(
    not (ROOT / ".venv-generate" / ".setup-generate").exists(),
    reason="no protobuf compiler: `scripts/setup generate` makes .venv-generate",
)


def message_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*_pb2*.py*")}


def is_stand_in(module: str) -> bool:
    return module.startswith("tensorflow_")


@needs_compiler
def test_the_committed_code_is_what_the_compiler_makes_of_protos(tmp_path: Path):
    subprocess.run([ROOT / "scripts" / "generate", tmp_path], check=True)
    for folder in (GENERATED, CLIENTS):
        assert message_files(tmp_path / folder.relative_to(ROOT)) == message_files(folder)


def test_our_messages_and_those_of_tensorflow_serving_api_load_into_one_process():
    """Two packages that register one file or message name differently cannot both be imported.

    Those that stand in for TensorFlow's are only for processes without it.
    """
    for package in ("tensorflow_serving.apis", "tensorflow_serving.config", "serving.generated"):
        modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
        for module in modules:
            if not is_stand_in(module.name):
                importlib.import_module(f"{package}.{module.name}")


def test_registered_file_names_are_our_own():
    for path in GENERATED.glob("*_pb2.py"):
        if not is_stand_in(path.stem):
            module = importlib.import_module(f"serving.generated.{path.stem}")
            assert module.DESCRIPTOR.name.startswith("serving/generated/")
