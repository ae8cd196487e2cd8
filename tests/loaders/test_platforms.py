"""Platforms are named in one table and imported when first needed."""

import errno
import subprocess
import sys
import tempfile
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId
from serving.loaders.platform_table import PLATFORMS, PlatformRow
from serving.loaders.platforms import AddedPlatform, Platforms
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.loaders.tflite_options import TfLiteOptions


def test_an_unknown_platform_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument) as raised:
        Platforms({}).get("caffe")
    assert raised.value.message == (
        f"there is no platform 'caffe'; there are: {', '.join(sorted(PLATFORMS))}"
    )
    assert "keras, lightgbm, " in raised.value.message


def test_a_platform_is_made_once() -> None:
    platforms = Platforms({})
    assert platforms.get("hashmap") is platforms.get("hashmap")
    assert "hashmap" in platforms
    assert "caffe" not in platforms


@pytest.mark.parametrize(("slow", "other"), [("added", "hashmap"), ("framework", "added")])
def test_nobody_waits_for_an_import_that_others_hang_in(
    slow: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is code of others, or a framework beside what needs none."""
    gate = types.SimpleNamespace(importing=threading.Event(), open=threading.Event())
    monkeypatch.setitem(sys.modules, "gate_of_imports", gate)
    (tmp_path / "slow_module.py").write_text(
        "import gate_of_imports as gate\ngate.importing.set()\ngate.open.wait()\nclass Slow: pass\n"
    )
    (tmp_path / "quick_module.py").write_text("class Quick: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PLATFORMS, "framework", PlatformRow("slow_module:Slow", "extra"))
    target = "slow_module:Slow" if slow == "added" else "quick_module:Quick"
    platforms = Platforms({}, added={"added": AddedPlatform(target)})
    with ThreadPoolExecutor(2) as threads:
        try:
            hanging = threads.submit(platforms.get, slow)
            assert gate.importing.wait(WAIT_SECONDS)
            platform = threads.submit(platforms.get, other).result(WAIT_SECONDS)
            assert not hanging.done()
        finally:
            gate.open.set()
        assert hanging.result(WAIT_SECONDS) is platforms.get(slow)
    assert platform is platforms.get(other)
    for module in ("slow_module", "quick_module"):
        sys.modules.pop(module, None)


def test_no_framework_is_imported_before_its_platform_is_asked_for() -> None:
    program = (
        "import sys; from serving.loaders.platforms import Platforms; "
        "Platforms({}).get('hashmap'); import serving.server_core; "
        "print('tensorflow' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize("platform", ["tensorflow", "keras"])
def test_without_room_for_temporary_files_tensorflow_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    platforms = Platforms({})
    with pytest.raises(FailedPrecondition) as raised:
        platforms.get(platform)
    assert raised.value.message == (
        f"platform '{platform}' needs a temporary directory: No usable temporary directory found "
        "in ['/tmp']; TMPDIR can name another"
    )
    platforms.get("hashmap")


def test_every_row_of_the_table_names_a_class() -> None:
    for name in PLATFORMS:
        assert PLATFORMS[name].target.count(":") == 1


@pytest.mark.parametrize(
    ("platform", "library"),
    [
        ("catboost", "catboost"),
        ("lightgbm", "lightgbm"),
        ("onnx", "onnxruntime"),
        ("pytorch", "torch"),
        ("sklearn", "joblib"),
        ("tflite", "ai_edge_litert"),
        ("xgboost", "xgboost"),
    ],
)
def test_without_its_library_a_platform_names_the_extra(platform: str, library: str) -> None:
    program = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from serving.loaders.platforms import Platforms\n"
        f"try: Platforms({{}}).get('{platform}')\n"
        "except Exception as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == (
        f"FAILED_PRECONDITION: platform '{platform}' needs {library}, which is not installed: "
        f"pip install '.[{PLATFORMS[platform].extra}]' in a checkout of this server\n"
    )


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A directory with a SavedModel's and a TensorFlow Lite model's file, both without a model."""
    for name in ("saved_model.pb", "model.tflite"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_tflite_model_is_preferred_where_that_is_wanted_and_there_is_one(version: Path) -> None:
    """Platforms are made when they are needed: here the one would be TensorFlow's."""
    options = {"tflite": TfLiteOptions()}
    preferring = Platforms(options, prefer_tflite=True).get("tensorflow")
    with pytest.raises(InvalidArgument, match="Cannot build Interpreter from buffer"):
        preferring.load(ServableId("m", 1), str(version))
    assert preferring.estimate(str(version)) == ResourceAllocation.ram(0)


@pytest.mark.parametrize("prefer", [True, False])
def test_a_saved_model_is_served_where_there_is_no_tflite_model_or_none_is_wanted(
    version: Path, prefer: bool
) -> None:
    if prefer:
        (version / "model.tflite").unlink()
    options = {"tflite": TfLiteOptions(), "tensorflow": TensorFlowOptions()}
    platform = Platforms(options, prefer_tflite=prefer).get("tensorflow")
    with pytest.raises(NotFound, match="meta graph"):
        platform.load(ServableId("m", 1), str(version))
