"""Scratch virtual environments for what is measured but not a dependency of this project."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

_INSTALL_SECONDS = 1800
_INSTALLED = "installed"


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "model_server_benchmarks",
        help="folder of the scratch environments, which are kept",
    )


def environment(cache: Path, name: str, packages: Sequence[str]) -> Path:
    """The ``bin`` folder of an environment that has the packages, made unless it is there.

    Raises RuntimeError with the end of what pip says where they cannot be installed.
    """
    directory = cache / name
    marker = directory / _INSTALLED
    wanted = "\n".join(packages)
    if not marker.is_file() or marker.read_text() != wanted:
        print(f"installing {' '.join(packages)} into {directory}", file=sys.stderr, flush=True)
        venv.create(directory, with_pip=True, clear=True)
        _install(directory / "bin" / "python", packages)
        marker.write_text(wanted)
    return directory / "bin"


def version(binaries: Path, package: str) -> str:
    """The version of a package that is installed in an environment."""
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    command = [str(binaries / "python"), "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _install(python: Path, packages: Sequence[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *packages]
    try:
        subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_INSTALL_SECONDS
        )
    except subprocess.CalledProcessError as error:
        raise RuntimeError("\n".join(error.stderr.splitlines()[-5:])) from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"pip took more than {_INSTALL_SECONDS} s") from None
