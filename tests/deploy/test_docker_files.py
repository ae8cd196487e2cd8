"""What goes into images is said once, and the Dockerfile is as its linter wants it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from locked_versions import DOCKER, VARIANTS, locked

ROOT = Path(__file__).parents[2]


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    ended = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_has_all_that_the_server_needs_and_no_version_below_the_lowest(
    variant: str,
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    others = (ROOT / "requirements-without-tensorflow.txt").read_text().splitlines()
    others = [line for line in others if line and not line.startswith("#")]
    versions = locked(variant)
    versions.setdefault("tensorflow", versions.get("tensorflow-cpu", ""))
    for requirement in {*project["dependencies"], *others}:
        name, lowest = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        found = versions[name.replace("_", "-")]
        assert [int(part) for part in found.split(".")[:2]] >= [
            int(part) for part in lowest.split(".")[:2]
        ], requirement


def test_both_variants_differ_in_frameworks_alone() -> None:
    cpu, gpu = locked("cpu"), locked("gpu")
    only_one = {name for name in cpu.keys() ^ gpu.keys() if not name.startswith("nvidia-")}
    assert only_one == {"tensorflow", "tensorflow-cpu"}
    assert {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]} == set()


def test_the_variant_of_tables_has_more_and_no_other_versions() -> None:
    cpu, tables = locked("cpu"), locked("tables")
    assert cpu.items() < tables.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in ("catboost", "lightgbm", "sklearn", "spark", "xgboost"):
        for requirement in project["optional-dependencies"][extra]:
            assert re.match(r"[\w-]+", requirement)[0] in tables  # type: ignore[index]


def test_the_composition_asks_for_files_that_are_there() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert services.keys() == {"model-server", "prometheus"}
    for service in services.values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (DOCKER / volume.split(":")[0]).is_file()
    assert (DOCKER / services["model-server"]["build"] / "Dockerfile").resolve().is_file()


def test_the_entry_point_is_the_server_itself() -> None:
    """exec: else signals would end the shell alone."""
    script = (DOCKER / "entrypoint.sh").read_text()
    assert re.search(r"^exec model_server ", script, re.MULTILINE)
    assert script.rstrip().endswith('"$@"')


def test_versions_that_can_not_be_found_leave_the_files_as_they_were(tmp_path: Path) -> None:
    """scripts/lock, where pip fails."""
    names = ["scripts/lock", "requirements-without-tensorflow.txt", "requirements-platforms.txt"]
    names.append("deploy/docker/requirements-cpu.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    setup = tmp_path / "scripts" / "setup"
    setup.write_text("#!/bin/sh\n")
    setup.chmod(0o755)
    environment = {**os.environ, "PYTHON": "false"}
    ended = subprocess.run([tmp_path / "scripts" / "lock"], check=False, env=environment)
    assert ended.returncode != 0
    before = (DOCKER / "requirements-cpu.txt").read_text()
    assert (tmp_path / "deploy" / "docker" / "requirements-cpu.txt").read_text() == before
