"""The files of requirements and pyproject.toml ask for the same packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from serving.loaders.platform_table import PLATFORMS

ROOT = Path(__file__).parent.parent
TOOLS = {"grpcio-tools", "pytest"}
PLATFORMS_WITH_AN_EXTRA = {row.extra for row in PLATFORMS.values() if row.extra}
LARGE = {"catboost", "jvm", "lightgbm", "sklearn", "spark", "torch", "xgboost"}
WITHOUT_TENSORFLOW = {"onnx", "tflite"}
OTHER_CODE_WITH_AN_EXTRA = {"channelz", "gpu-metrics", "http2", "otel"}
LARGE_OTHERS = {"convert", "ray"}


def requirement_lines(file: str = "requirements.txt") -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_what_the_package_runs_with_and_the_named_tools():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = {line for line in requirement_lines() if re.match(r"[\w-]+", line)[0] in TOOLS}
    assert len(tools) == len(TOOLS)
    extras = project["optional-dependencies"]
    names = (PLATFORMS_WITH_AN_EXTRA | OTHER_CODE_WITH_AN_EXTRA) - LARGE
    optional = {line for name in names for line in extras[name]}
    assert set(requirement_lines()) - tools == set(project["dependencies"]) | optional
    assert next(line for line in tools if "pytest" in line) in extras["test"]


def test_large_libraries_have_a_file_of_their_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    expected = {line for name in LARGE | LARGE_OTHERS for line in extras[name]}
    assert LARGE <= PLATFORMS_WITH_AN_EXTRA
    smaller = set(requirement_lines())
    assert set(requirement_lines("requirements-platforms.txt")) == expected - smaller


def test_what_only_tests_need_has_a_file_of_its_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    others = {*requirement_lines(), *requirement_lines("requirements-platforms.txt")}
    expected = set(project["optional-dependencies"]["test"]) - others
    assert set(requirement_lines("requirements-test.txt")) == expected


def test_without_tensorflow_it_is_the_same_with_the_formats_that_models_are_converted_to():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    platforms = {line for name in WITHOUT_TENSORFLOW for line in extras[name]}
    expected = set(project["dependencies"]) - set(extras["tensorflow"]) | platforms
    assert set(requirement_lines("requirements-without-tensorflow.txt")) == expected


def test_what_bazel_downloads_is_all_that_the_files_of_requirements_ask_for():
    """scripts/lock writes the file, and tells what it takes."""
    files = ["requirements.txt", "requirements-platforms.txt", "requirements-test.txt"]
    asked = {re.match(r"[\w.-]+", line)[0] for file in files for line in requirement_lines(file)}
    locked = {line.partition("==")[0] for line in requirement_lines("requirements_lock.txt")}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in asked} <= locked


def test_the_extra_for_all_platforms_is_that_of_each():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (everything,) = project["optional-dependencies"]["all"]
    extras = sorted({row.extra for row in PLATFORMS.values() if row.extra})
    assert everything == f"{project['name']}[{','.join(extras)}]"
    assert set(extras) <= project["optional-dependencies"].keys()
