"""The page about adding a platform, followed word for word."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from serving.testing import running_server

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "add_a_platform.md"


def blocks() -> tuple[dict[str, str], str]:
    """The files that the page shows, by name, and its program that asks."""
    text = PAGE.read_text()
    found = re.findall(r"(?:\*\*([\w./]+)\*\*[^`*]*\n\n)?```\w+\n(.*?)```", text, re.DOTALL)
    (asks,) = [block for name, block in found if not name]
    return {name: block for name, block in found if name}, asks


def install(files: dict[str, str], site: Path) -> None:
    """What ``pip install .`` leaves of a pyproject.toml and a module."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    (site / "polynomial_platform.py").write_text(files["polynomial_platform.py"])
    name = project["name"].replace("-", "_")
    info = site / f"{name}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{point} = {target}\n" for point, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))


def test_the_page_makes_a_platform_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    files, asks = blocks()
    site, models = tmp_path / "site", tmp_path / "models"
    site.mkdir()
    install(files, site)
    monkeypatch.syspath_prepend(site)
    version = tmp_path / "models/square/1/model.poly"
    version.parent.mkdir(parents=True)
    version.write_text(files["models/square/1/model.poly"])
    config = tmp_path / "models.config"
    config.write_text(files["models.config"].replace("/srv/models", str(models)))
    try:
        with running_server(f"--model_config_file={config}") as server:
            program = asks.replace("localhost:8500", f"127.0.0.1:{server.grpc_port}")
            exec(compile(program, PAGE.name, "exec"), {})
    finally:
        sys.modules.pop("polynomial_platform", None)
    (printed,) = re.findall(r"This prints `([^`]*)`", PAGE.read_text())
    assert capsys.readouterr().out.strip() == printed
