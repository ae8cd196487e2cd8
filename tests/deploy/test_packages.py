"""The packages as they are handed out: built from what version control knows, then installed and
used where there is no source tree.

    scripts/test --slow -n 0 tests/deploy/test_packages.py

It downloads what the server needs into an environment of its own, which takes minutes and 3 GB,
once a process; all of it is removed at the end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tomllib
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from platform_page import blocks, expected_output, write
from waiting import START_SECONDS, await_

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALL_SECONDS = 1800
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('.'))"
HALF_PLUS_TWO = """
import sys
import grpc
import tensorflow
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

request = predict_pb2.PredictRequest()
request.model_spec.name = "half_plus_two"
request.inputs["x"].CopyFrom(tensorflow.make_tensor_proto([1.0, 2.0]))
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    print(tensorflow.make_ndarray(stub.Predict(request, timeout=60).outputs["y"]).tolist())
"""
HALF_PLUS_TWO_BY_OWN_CLIENT = """
import sys
from importlib.util import find_spec
import numpy as np
from model_server_client import Client
from model_server_client.rest_client import RestClient

print(find_spec("tensorflow"))
grpc_at, rest_at = sys.argv[1:]
for client in (Client(grpc_at, timeout=60), RestClient(f"http://{rest_at}", timeout=60)):
    with client:
        print(client.predict("half_plus_two", {"x": np.float32([1, 2])})["y"].tolist())
"""
ANNOUNCED = (
    r"Running gRPC ModelServer at (127\.0\.0\.1:\d+) ",
    r"Exporting HTTP/REST API at:(127\.0\.0\.1:\d+) ",
)
EXTRAS_OF = (
    "from importlib.metadata import metadata as m; print(*m({!r}).get_all('Provides-Extra'))"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALL_SECONDS)]


def surroundings() -> dict[str, str]:
    """The environment variables without what leads Python to the source tree."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must end well."""
    done = subprocess.run(
        command, cwd=cwd, env=surroundings(), capture_output=True, text=True, check=False
    )
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


@dataclass(frozen=True, slots=True)
class Environment:
    """The programs of a virtual environment, and a folder to run them in that has nothing else."""

    programs: Path
    folder: Path

    def run(self, program: str, *arguments: str | Path) -> str:
        return run(self.programs / program, *arguments, cwd=self.folder)


@contextmanager
def environment_with(wheel: str, folder: Path) -> Iterator[Environment]:
    """What pip installs for a wheel, removed afterwards."""
    made = Environment(folder / "venv" / "bin", folder / "elsewhere")
    try:
        venv.create(folder / "venv", with_pip=True)
        made.folder.mkdir()
        # Later ones resolve what they do not install without downloading all of it.
        made.run("pip", "install", "--quiet", "--upgrade", "pip")
        made.run("pip", "install", "--quiet", wheel)
        yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(
    packages: tuple[Built, Built], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    folder = tmp_path_factory.mktemp("server")
    with environment_with(str(packages[0].wheel), folder) as made:
        yield made


@contextmanager
def serving(environment: Environment, *flags: str) -> Iterator[tuple[str, str]]:
    """The installed command; yields the addresses of gRPC and REST."""
    loopback = ("--grpc_bind_address=127.0.0.1:0", "--rest_bind_address=127.0.0.1:0")
    command = (environment.programs / "tensorflow_model_server", *loopback, *flags)
    with (
        NamedTemporaryFile("w", dir=environment.folder, suffix=".log") as output,
        subprocess.Popen(
            command, cwd=environment.folder, env=surroundings(), stdout=output, stderr=output
        ) as process,
    ):
        log = Path(output.name)

        def addresses() -> list[str]:
            found = (re.search(pattern, log.read_text()) for pattern in ANNOUNCED)
            return [match[1] for match in found if match]

        try:
            await_(
                lambda: len(addresses()) == 2 or process.poll() is not None,
                lambda: f"both addresses in:\n{log.read_text()}",
                START_SECONDS,
            )
            assert process.poll() is None, log.read_text()
            grpc_at, rest_at = addresses()
            yield grpc_at, rest_at
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def half_plus_two(server: Environment) -> Iterator[tuple[str, str]]:
    """Where the installed server answers for the example, which was exported beside it."""
    shutil.copy(ROOT / "examples" / "half_plus_two" / "export.py", server.folder)
    base = server.folder / "half_plus_two"
    base.mkdir()
    server.run("python", "export.py", base)
    with serving(server, "--model_name=half_plus_two", f"--model_base_path={base}") as addresses:
        yield addresses


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


def test_what_is_installed_agrees_and_is_found_without_the_source_tree(server: Environment):
    assert "No broken requirements found." in server.run("pip", "check")
    where = server.run("python", "-c", "import serving; print(serving.__path__[0])")
    assert Path(where.strip()).is_relative_to(server.programs.parent)
    version, library = server.run("model_server", "--version").splitlines()
    assert version == f"TensorFlow ModelServer: {PROJECT['version']}"
    assert re.fullmatch(r"TensorFlow Library: \d+\.\d+\.\d+", library)
    usage = server.run("tensorflow_model_server", "--help")
    assert usage == server.run("model_server", "--help")
    assert "--model_base_path=" in usage


def test_both_ports_answer_stock_clients(server: Environment, half_plus_two: tuple[str, str]):
    grpc_at, rest_at = half_plus_two
    assert server.run("python", "-c", HALF_PLUS_TWO, grpc_at) == "[2.5, 3.0]\n"
    url = f"http://{rest_at}/v1/models/half_plus_two:predict"
    with urllib.request.urlopen(url, b'{"instances": [1.0, 2.0]}') as answer:
        assert json.load(answer) == {"predictions": [2.5, 3.0]}


def test_the_client_asks_the_server_from_where_no_tensorflow_is(
    packages: tuple[Built, Built],
    half_plus_two: tuple[str, str],
    tmp_path: Path,
):
    wheel = f"model-server-client[rest] @ {packages[1].wheel.as_uri()}"
    with environment_with(wheel, tmp_path) as client:
        assert "No broken requirements found." in client.run("pip", "check")
        printed = client.run("python", "-c", HALF_PLUS_TWO_BY_OWN_CLIENT, *half_plus_two)
    assert printed.splitlines() == ["None", "[2.5, 3.0]", "[2.5, 3.0]"]


def test_the_page_about_adding_a_platform_holds_beside_what_is_installed(
    server: Environment, tmp_path: Path
):
    files, asks = blocks()
    write(files, tmp_path)
    server.run("pip", "install", "--quiet", tmp_path)
    config = tmp_path / "models.config"
    config.write_text(config.read_text().replace("/srv/models", str(tmp_path / "models")))
    with serving(server, f"--model_config_file={config}") as (grpc_at, _):
        program = asks.replace("localhost:8500", grpc_at)
        assert server.run("python", "-c", program).strip() == expected_output()


def test_the_wheel_offers_every_extra(server: Environment):
    assert set(server.run("python", "-c", EXTRAS_OF.format(PROJECT["name"])).split()) == set(EXTRAS)


@pytest.mark.parametrize("extra", [name for name in EXTRAS if not name.startswith("test")])
def test_an_extra_can_be_installed_beside_the_server(
    extra: str, packages: tuple[Built, Built], server: Environment
):
    wanted = f"{PROJECT['name']}[{extra}] @ {packages[0].wheel.as_uri()}"
    server.run("pip", "install", "--quiet", "--dry-run", wanted)
