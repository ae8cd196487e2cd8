"""The packages as they are handed out, built from what version control knows.

    scripts/test --slow tests/deploy/test_packages.py

It downloads setuptools into an environment of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 900
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('.'))"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(BUILD_SECONDS)]


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must end well."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class Built:
    """What a distribution is handed out as, and the names in the tree that it was built from."""

    wheel: Path
    sdist: Path
    tracked: frozenset[str]


def clean_copy(folder: Path) -> frozenset[str]:
    """What version control knows and the new files it does not ignore; their names."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = [name for name in run(*listed, cwd=ROOT).split("\0") if (ROOT / name).is_file()]
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return frozenset(names)


def build(python: Path, source: Path, output: Path, tracked: frozenset[str]) -> Built:
    """The sdist of a tree, and the wheel of what is in the sdist."""
    output.mkdir()
    name = run(python, "-c", BUILD, "build_sdist", cwd=source).splitlines()[-1]
    sdist = shutil.move(source / name, output)
    with tarfile.open(sdist) as archive:
        archive.extractall(output / "unpacked", filter="data")
    (unpacked,) = (output / "unpacked").iterdir()
    name = run(python, "-c", BUILD, "build_wheel", cwd=unpacked).splitlines()[-1]
    return Built(Path(shutil.move(unpacked / name, output)), Path(sdist), tracked)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Built]:
    """The server's and the client's."""
    folder = tmp_path_factory.mktemp("packages")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "setuptools>=77", cwd=folder)
    source = folder / "source"
    tracked = clean_copy(source)
    client = build(python, source / "clients" / "python", folder / "client", tracked)
    server = build(python, source, folder / "server", tracked)
    shutil.rmtree(source)
    return server, client


def names_in(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


def package_files(tracked: frozenset[str], folder: str, package: str) -> set[str]:
    """What of a package should be installed: all of it but what is for building it."""
    return {
        name.removeprefix(folder)
        for name in tracked
        if name.startswith(f"{folder}{package}/") and Path(name).name != "BUILD"
    }


def test_the_wheels_hold_the_packages_with_their_types_and_messages_and_nothing_else(packages):
    server, client = packages
    assert names_in(server.wheel) == package_files(server.tracked, "", "serving")
    folder, package = "clients/python/", "model_server_client"
    assert names_in(client.wheel) == package_files(client.tracked, folder, package)


def test_the_sdists_hold_what_the_wheels_are_built_from(packages):
    for built in packages:
        with tarfile.open(built.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        assert {"README.md", "pyproject.toml", "PKG-INFO"} <= names
        assert names_in(built.wheel) <= names
