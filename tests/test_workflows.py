"""CI's workflows are well-formed, and do with the scripts what anybody can do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def commands(path: Path) -> Iterator[str]:
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)


@every_workflow
def test_a_workflow_is_what_github_takes(path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    command = [sys.executable, "-m", "check_jsonschema"]
    schema = ["--builtin-schema", "vendor.github-workflows"]
    ended = subprocess.run([*command, *schema, path], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@every_workflow
def test_scripts_do_the_work(path: Path) -> None:
    """Each command is a script of the repository with options that it has, or builds the image."""
    for command in commands(path):
        if command == "docker build -t model-server .":
            continue
        program, *arguments = command.split()
        script = ROOT / program
        assert script.stat().st_mode & 0o100, program
        for option in (each for each in arguments if each.startswith("--")):
            assert re.search(rf"^#   {program} \[?{option}\b", script.read_text(), re.MULTILINE)
        for file in (each for each in arguments if "/" in each):
            assert (ROOT / file).exists(), file


def test_ci_runs_the_script_that_holds_everything() -> None:
    (path,) = WORKFLOWS
    assert ".ci/run" in list(commands(path))
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec scripts/test")
