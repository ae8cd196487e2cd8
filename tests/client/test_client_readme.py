"""The README of the client says what happens: its programs run, one after the other."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path

from exported_models import Exported, half_plus_two

from serving.testing import running_server

CLIENT = Path(__file__).parents[2] / "clients" / "python"


def test_the_programs_of_the_readme_run(exported: Exported) -> None:
    base = exported(half_plus_two).parent
    programs = re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    printed = io.StringIO()
    flags = ("--model_name=half_plus_two", f"--model_base_path={base}")
    with running_server(*flags) as server, contextlib.redirect_stdout(printed):
        for program in programs:
            here = (
                program.replace("localhost:8500", f"127.0.0.1:{server.grpc_port}")
                .replace("localhost:8501", f"127.0.0.1:{server.rest_port}")
                .replace("/models/half_plus_two", str(base))
            )
            exec(compile(here, "README.md", "exec"), {})
    first, second, *_ = printed.getvalue().splitlines()
    assert first == "[2.5 3. ] 1"
    assert second == "[2.5 3. ]"
    assert len(programs) == 4


def lower_bounds(requirements: list[str]) -> dict[str, tuple[int, ...]]:
    """The oldest version of each package: requirements like ``uvloop>=0.21; platform``."""
    pairs = (each.partition(";")[0].split(">=") for each in requirements)
    return {name: tuple(map(int, version.split("."))) for name, version in pairs}


def test_the_client_needs_no_tensorflow_and_nothing_newer_than_the_server_does() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    server = tomllib.loads((CLIENT.parents[1] / "pyproject.toml").read_text())["project"]
    assert not any("tensorflow" in name for name in project["dependencies"])
    oldest, of_server = (lower_bounds(each["dependencies"]) for each in (project, server))
    assert all(version <= of_server[name] for name, version in oldest.items())
    assert project["version"] == server["version"]
