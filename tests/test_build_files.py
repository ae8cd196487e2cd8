"""Bazel sees the house as Python does: dependencies are the imports, visibility is the table."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import test_architecture as house

DISTRIBUTIONS = {
    "ai_edge_litert": "ai-edge-litert",
    "google": "protobuf",
    "grpc": "grpcio",
    "google_crc32c": "google-crc32c",
    "grpc_channelz": "grpcio-channelz",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "jpype": "jpype1",
    "opentelemetry": "opentelemetry-exporter-otlp-proto-grpc",
    "prometheus_client": "prometheus-client",
    "pynvml": "nvidia-ml-py",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
    "xgboost": "xgboost-cpu",
    "yaml": "pyyaml",
}
"""What installs a package, where it has another name than the package."""

PUBLIC = {"//serving:cli", "//serving:session_bundle_exporter", "//serving:testing"}
"""The door, and what ships for the programs and tests of others."""


@dataclass(frozen=True, slots=True)
class Target:
    """One py_library: its label, and what its BUILD file says of it."""

    label: str
    part: str
    files: list[Path] = field(repr=False)
    deps: set[str] = field(repr=False)
    visibility: set[str] = field(repr=False)


def is_package(part: str) -> bool:
    return (house.ROOT / "serving" / part / "__init__.py").is_file()


def absolute(label: str, package: str) -> str:
    """``:cli`` in //serving and //serving/core as //serving:cli and //serving/core:core."""
    if label.startswith(":"):
        return f"{package}{label}"
    return label if ":" in label else f"{label}:{label.rpartition('/')[2]}"


def strings(node: ast.expr, package: str) -> set[str]:
    """The labels of a list; ``requirement("numpy")`` counts as ``numpy``."""
    assert isinstance(node, ast.List)
    return {
        item.args[0].value if isinstance(item, ast.Call) else absolute(item.value, package)
        for item in node.elts
    }


def sources(node: ast.expr, folder: Path) -> list[Path]:
    if isinstance(node, ast.Call):
        return sorted(path for item in node.args[0].elts for path in folder.glob(item.value))
    return [folder / name.value for name in node.elts]


def targets() -> Iterator[Target]:
    """Every py_library below serving/. A BUILD file is Python to read."""
    for build_file in sorted((house.ROOT / "serving").rglob("BUILD")):
        folder = build_file.parent
        package = f"//{folder.relative_to(house.ROOT).as_posix()}"
        visibility: set[str] = set()
        for node in ast.walk(ast.parse(build_file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            words = {word.arg: word.value for word in node.keywords}
            if node.func.id == "package":
                visibility = strings(words["default_visibility"], package)
            if node.func.id == "py_library":
                name = words["name"].value
                part = name if package == "//serving" else package.split("/")[3]
                yield Target(
                    f"{package}:{name}",
                    part,
                    sources(words["srcs"], folder),
                    strings(words.get("deps", ast.List([])), package),
                    strings(words["visibility"], package) if "visibility" in words else visibility,
                )


def folders_of_tests() -> Iterator[Target]:
    """The tests of each folder: one pytest_tests says what all of them need."""
    for build_file in sorted((house.ROOT / "tests").rglob("BUILD")):
        folder = build_file.parent
        package = f"//{folder.relative_to(house.ROOT).as_posix()}"
        for node in ast.walk(ast.parse(build_file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest_tests":
                (deps,) = [word.value for word in node.keywords if word.arg == "deps"]
                # Helpers of all folders have a target of their own.
                files = sorted(folder.glob("test_*.py" if package == "//tests" else "*.py"))
                yield Target(package, "tests", files, strings(deps, package), set())


def required(*files: str) -> set[str]:
    """The packages that the lines of files of requirements name."""
    text = "\n".join((house.ROOT / file).read_text() for file in files)
    return set(re.findall(r"^[\w-]+", text, re.MULTILINE))


FOLDERS_OF_TESTS = list(folders_of_tests())
REQUIRED = required("requirements.txt", "requirements-platforms.txt", "requirements-test.txt")
TARGETS = [target for target in targets() if target.label != "//serving:serving"]


def label_of(module: str) -> str:
    """The target that holds a module of serving/."""
    names = module.split(".")
    if is_package(names[1]):
        folder = "/".join(names[1:3] if names[1] == "apis" else names[1:2])
        return absolute(f"//serving/{folder}", "")
    return f"//serving:{names[1]}"


def needed_by(target: Target) -> set[str]:
    """The labels and distributions behind every import of a target's files, and its parents."""
    needed = {"//serving:serving"}
    if target.label.startswith("//serving/apis/"):
        needed.add("//serving/apis:apis")
    for path in target.files:
        for found in house.imports_of(path):
            top = found.module.split(".")[0]
            if top == "serving":
                needed.add(label_of(found.module))
            elif top not in sys.stdlib_module_names:
                needed.add(DISTRIBUTIONS.get(top, top))
    return needed - {target.label}


def needed_by_tests(folder: Target) -> set[str]:
    """The labels and distributions behind every import of a folder's files.

    What only some environments have is not asked for: those tests are skipped elsewhere.
    """
    own = {path.stem for path in folder.files}
    needed = {"//tests:support"}
    for path in folder.files:
        for found in house.imports_of(path):
            top = found.module.split(".")[0]
            if top == "serving":
                needed.add(label_of(found.module))
            elif top == "model_server_client":
                needed.add(absolute("//clients/python/model_server_client", ""))
            elif top not in own and DISTRIBUTIONS.get(top, top) in REQUIRED:
                needed.add(DISTRIBUTIONS.get(top, top))
    return needed - {"pytest"}


def visible_to(target: Target) -> set[str]:
    """What should see a target: the parts that may import its part, and the tests.

    The package ``apis`` itself is seen by each API in it, but no API by another.
    """
    if target.label in PUBLIC:
        return {"//visibility:public"}
    users = {
        user for user, imported in house.MAY_IMPORT.items() if house.is_below(target.part, imported)
    } - {target.part}
    if target.label == "//serving/apis:apis":
        users.add("apis")
    in_files = {user for user in users if (house.ROOT / "serving" / f"{user}.py").is_file()}
    packages = {f"//serving/{user}:__subpackages__" for user in users - in_files}
    return packages | {"//serving:__pkg__", "//tests:__subpackages__"}


def test_every_file_belongs_to_one_target():
    held = [path for target in targets() for path in target.files]
    assert sorted(held) == house.files()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.label)
def test_dependencies_are_the_imports(target: Target):
    assert target.deps == needed_by(target)


@pytest.mark.parametrize("folder", FOLDERS_OF_TESTS, ids=lambda folder: folder.label)
def test_dependencies_of_tests_are_their_imports(folder: Target):
    assert folder.deps == needed_by_tests(folder)


def test_every_folder_of_tests_has_its_targets():
    """The macro makes one of every test file beside it."""
    folders = {path.parent for path in (house.ROOT / "tests").rglob("test_*.py")}
    assert folders == {folder.files[0].parent for folder in FOLDERS_OF_TESTS}


def test_every_requirement_is_a_line_of_the_files_that_bazel_reads():
    asked = {dep for target in [*TARGETS, *FOLDERS_OF_TESTS] for dep in target.deps}
    assert {dep for dep in asked if not dep.startswith("//")} <= REQUIRED


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.label)
def test_visibility_is_the_import_table(target: Target):
    assert target.visibility == visible_to(target)
