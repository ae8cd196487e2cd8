"""The house's import table: which part may know of which, checked over every import there is.

docs/architecture.md shows the same table; tests/test_build_files.py holds Bazel to it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 600

ROOMS = frozenset({"sources", "loaders", "managers", "batching"})
EVERYTHING = frozenset({"*"})

MAY_IMPORT: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "generated": frozenset(),
    "sources": frozenset({"core"}),
    "loaders": frozenset({"core", "generated"}),
    "managers": frozenset({"core"}),
    "batching": frozenset({"core"}),
    "inference": frozenset({"core"}),
    "transport": frozenset({"core"}),
    "observability": frozenset({"core"}),
    "metrics": frozenset(),
    "monitoring": frozenset({"batching", "core", "metrics"}),
    "memory": frozenset({"core"}),
    "version_labels": frozenset({"core"}),
    "awaited_models": frozenset({"core", "managers"}),
    "server_core_options": frozenset({"core", "sources"}),
    "config_check": frozenset({"core", "loaders", "sources"}),
    "lifecycle": frozenset({"core", "server_core_options", "sources", "loaders", "managers"}),
    "server_core": frozenset(
        {
            "core",
            "version_labels",
            "awaited_models",
            "server_core_options",
            "config_check",
            "lifecycle",
            "sources",
            "loaders",
            "managers",
        }
    ),
    "apis": frozenset({"core", "inference", "generated", "metrics"}),
    "config": frozenset(
        {
            "core",
            "generated",
            "observability",
            "request_logging",
            "server_core_options",
            "transport",
            "apis",
        }
    )
    | ROOMS,
    "batched_servables": frozenset({"core", "batching", "config"}),
    "record_file": frozenset({"core"}),
    "request_logging": frozenset({"core", "apis", "metrics", "record_file"}),
    "warm_up": frozenset({"core", "apis", "record_file"}),
    "peers": frozenset({"core", "config", "metrics", "server_core"}),
    "wrapped_servables": frozenset(
        {"batched_servables", "batching", "config", "core", "monitoring", "observability"}
    ),
    "frontends": frozenset(
        {"apis", "config", "core", "loaders", "metrics", "monitoring", "observability", "transport"}
    ),
    "ports": frozenset(
        {"config", "core", "monitoring", "observability", "server_core", "transport"}
    ),
    "model_server": EVERYTHING,
    "process": EVERYTHING,
    "ray_serve": frozenset(
        {
            "apis",
            "config",
            "core",
            "memory",
            "model_server",
            "monitoring",
            "observability",
            "ports",
            "server_core",
            "transport",
        }
    ),
    "workers": frozenset(
        {
            "core",
            "config",
            "managers",
            "metrics",
            "observability",
            "peers",
            "process",
            "server_core",
            "transport",
        }
    ),
    "work_in_child": frozenset({"core", "loaders"}),
    "inspection": frozenset(
        {"apis", "config", "core", "loaders", "metrics", "sources", "work_in_child"}
    ),
    "conversion": frozenset(
        {"config", "core", "inspection", "loaders", "sources", "work_in_child"}
    ),
    "commands": frozenset(
        {
            "apis",
            "config",
            "conversion",
            "core",
            "inspection",
            "record_file",
            "request_logging",
            "warm_up",
        }
    ),
    "cli": EVERYTHING,
    "session_bundle_exporter": frozenset({"generated"}),
    "testing": EVERYTHING,
}
"""Parts of serving/ by name, and the other parts each may import."""

MESSAGES = frozenset({"google.protobuf", "tensorflow_serving", "tensorflow.core"})
THIRD_PARTY: dict[str, frozenset[str]] = {
    "core": frozenset({"numpy", "ml_dtypes"}),
    "generated": frozenset({"google.protobuf"}),
    "sources": frozenset({"fsspec"}),
    "loaders": frozenset({"numpy", "ml_dtypes"}),
    "managers": frozenset(),
    "batching": frozenset({"numpy"}),
    "inference": frozenset({"numpy"}),
    "transport": frozenset(
        {
            "google.protobuf",
            "grpc",
            "grpc_channelz",
            "grpc_health",
            "grpc_reflection",
            "h2",
            "httptools",
            "hypercorn",
            "uvloop",
        }
    ),
    "observability": frozenset({"numpy"}),
    "metrics": frozenset(),
    "monitoring": frozenset({"numpy", "prometheus_client", "pynvml"}),
    "memory": frozenset(),
    "version_labels": frozenset(),
    "awaited_models": frozenset(),
    "server_core_options": frozenset(),
    "config_check": frozenset(),
    "lifecycle": frozenset(),
    "server_core": frozenset(),
    "apis": frozenset({"numpy", "ml_dtypes", "orjson", "starlette", "zstandard"}) | MESSAGES,
    "config": MESSAGES | {"yaml"},
    "batched_servables": frozenset(),
    "record_file": frozenset({"google_crc32c"}),
    "request_logging": frozenset({"google.protobuf"}),
    "warm_up": frozenset(),
    "peers": frozenset(),
    "wrapped_servables": frozenset(),
    "frontends": frozenset(),
    "ports": frozenset(),
    "model_server": EVERYTHING,
    "process": EVERYTHING,
    "ray_serve": frozenset({"grpc"}),
    "workers": frozenset(),
    "work_in_child": frozenset(),
    "inspection": frozenset({"google.protobuf", "numpy", "starlette"}),
    "conversion": frozenset({"numpy"}),
    "commands": frozenset({"google.protobuf", "grpc", "numpy"}),
    "cli": EVERYTHING,
    "session_bundle_exporter": frozenset({"google.protobuf", "tensorflow"}),
    "testing": EVERYTHING,
}
"""The packages from elsewhere that each part may import."""

PLATFORM_FILES: dict[str, frozenset[str]] = {
    "serving/conversion/sklearn_*.py": frozenset({"onnx", "onnxruntime", "skl2onnx"}),
    "serving/conversion/tensorflow_*.py": frozenset({"tensorflow"}),
    "serving/loaders/caffe2_*.py": frozenset({"google.protobuf", "onnx"}),
    "serving/loaders/catboost_*.py": frozenset({"catboost"}),
    "serving/loaders/cntk_*.py": frozenset({"google.protobuf", "onnx"}),
    "serving/loaders/h2o_*.py": frozenset({"jpype"}),
    "serving/loaders/jvm*.py": frozenset({"jpype"}),
    "serving/loaders/keras_*.py": frozenset({"keras", "tensorflow"}),
    "serving/loaders/lightgbm_*.py": frozenset({"lightgbm"}),
    "serving/loaders/mxnet_*.py": frozenset({"onnx"}),
    "serving/loaders/onnx_*.py": frozenset({"google.protobuf", "onnx", "onnxruntime"}),
    "serving/loaders/pmml_*.py": frozenset({"jpype"}),
    "serving/loaders/pytorch_*.py": frozenset({"torch"}),
    "serving/loaders/sklearn_*.py": frozenset({"joblib", "pandas", "sklearn", "skops"}),
    "serving/loaders/spark_*.py": frozenset({"pyarrow"}),
    "serving/loaders/tensorflow_*.py": frozenset({"tensorflow", "google.protobuf"}),
    "serving/loaders/tflite_*.py": frozenset({"ai_edge_litert", "flatbuffers"}) | MESSAGES,
    "serving/loaders/xgboost_*.py": frozenset({"xgboost"}),
    "serving/observability/tracing.py": frozenset({"opentelemetry"}),
    "serving/ray_serve/application.py": frozenset({"ray"}),
}
"""The files that may import what is optional: a machine-learning framework, whose models they run,
the packages of OpenTelemetry, or Ray.
"""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, wherever in a file the import stands."""

    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def files() -> list[Path]:
    return sorted((ROOT / "serving").rglob("*.py"))


def part_of(module: str) -> str:
    """``core`` for serving.core.errors; "" for the package serving itself."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    """Every import in the file, those inside functions too."""
    file = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}")


def is_below(module: str, packages: frozenset[str]) -> bool:
    return packages == EVERYTHING or any(
        module == package or module.startswith(f"{package}.") for package in packages
    )


ALL_IMPORTS = [(module_of(path), found) for path in files() for found in imports_of(path)]


def test_every_part_of_the_house_has_its_row():
    parts = {part_of(module_of(path)) for path in files()} - {""}
    assert parts <= MAY_IMPORT.keys()
    assert MAY_IMPORT.keys() == THIRD_PARTY.keys()


def test_parts_import_only_the_parts_that_the_table_allows():
    wrong = []
    for module, found in ALL_IMPORTS:
        part = part_of(module)
        if not is_below(found.module, frozenset({"serving"})) or part == "":
            continue
        target = part_of(found.module)
        if target != part and not is_below(target, MAY_IMPORT[part]):
            wrong.append(str(found))
    assert wrong == []


def test_an_api_does_not_know_another_api():
    wrong = []
    for module, found in ALL_IMPORTS:
        if part_of(module) == "apis" and found.module.startswith("serving.apis."):
            same = module.split(".")[2:3] == found.module.split(".")[2:3]
            if not same:
                wrong.append(str(found))
    assert wrong == []


def test_parts_import_only_the_packages_that_the_table_allows():
    """Above all: no framework outside its platform's file, and core stays numpy and the library."""
    wrong = []
    for module, found in ALL_IMPORTS:
        part = part_of(module)
        top = found.module.split(".")[0]
        if part == "" or top == "serving" or top in sys.stdlib_module_names:
            continue
        allowed = THIRD_PARTY[part]
        for pattern, more in PLATFORM_FILES.items():
            if fnmatch(found.file, pattern):
                allowed |= more
        if not is_below(found.module, allowed):
            wrong.append(str(found))
    assert wrong == []


def test_modules_import_each_other_in_one_direction():
    modules = {module_of(path) for path in files()}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, found in ALL_IMPORTS:
        for target in (found.module, found.module.rpartition(".")[0]):
            if target in modules and target != module:
                graph[module].add(target)
                break
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    "path",
    [path for path in files() if "generated" not in path.parts],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_file_is_one_idea_of_at_most_600_lines(path: Path):
    assert len(path.read_text().splitlines()) < MOST_LINES


def test_the_import_table_in_the_documentation_is_this_one():
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| ([^|]*) \|",
            (ROOT / "docs" / "architecture.md").read_text(),
            re.MULTILINE,
        )
    )
    documented = {
        part: frozenset({"*"} if "everything" in names else re.findall(r"`(\w+)`", names))
        for part, names in rows.items()
        if part in MAY_IMPORT
    }
    assert documented == MAY_IMPORT
