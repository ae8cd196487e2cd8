"""A version whose platform is not configured is served by the one that its files are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.core.errors import InvalidArgument, NotFound
from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId
from serving.loaders.platform_detection import platform_of
from serving.loaders.platform_table import PLATFORMS, ModelFile, PlatformRow
from serving.loaders.platforms import Platforms

M1 = ServableId("m", 1)


def version(folder: Path, *files: str) -> str:
    for file in files:
        (folder / file).write_bytes(b"")
    return str(folder)


@pytest.mark.parametrize(
    ("files", "platform"),
    [
        (["saved_model.pb", "fingerprint.pb"], "tensorflow"),
        (["saved_model.pbtxt"], "tensorflow"),
        (["export.meta", "export-00000-of-00001"], "tensorflow"),
        (["graph.pb"], "tensorflow"),
        (["model.keras"], "keras"),
        (["digits.h5"], "keras"),
        (["model.tflite"], "tflite"),
        (["model.onnx", "weights.bin", "signature.json", "README.md"], "onnx"),
        (["any.onnx"], "onnx"),
        (["table.csv"], "hashmap"),
    ],
)
def test_a_platform_is_recognised_by_the_names_of_its_files(
    tmp_path: Path, files: list[str], platform: str
):
    assert platform_of(version(tmp_path, *files)) == platform


def test_a_path_may_be_the_file_itself(tmp_path: Path):
    version(tmp_path, "table.csv")
    assert platform_of(str(tmp_path / "table.csv")) == "hashmap"


def test_a_tflite_model_beside_a_saved_model_is_the_saved_models(tmp_path: Path):
    """Which of both is served, ``--prefer_tflite_model`` says."""
    assert platform_of(version(tmp_path, "saved_model.pb", "model.tflite")) == "tensorflow"


def test_what_lies_beside_a_python_class_is_its_own_but_for_whole_names(tmp_path: Path):
    assert platform_of(version(tmp_path, "model.py", "weights.pt", "words.csv")) == "python"
    with pytest.raises(InvalidArgument, match=r"python \(model.py\); tensorflow"):
        platform_of(version(tmp_path, "saved_model.pb"))


def test_files_of_several_platforms_are_refused_with_all_of_them(tmp_path: Path):
    with pytest.raises(InvalidArgument) as raised:
        platform_of(version(tmp_path, "b.onnx", "a.onnx", "saved_model.pb", "table.csv"))
    assert raised.value.message == (
        "no platform is configured, and the version's files suit several: hashmap (table.csv); "
        "onnx (a.onnx, b.onnx); tensorflow (saved_model.pb); model_platform has to say which"
    )


def test_where_nothing_is_recognised_what_was_looked_for_is_told(tmp_path: Path):
    with pytest.raises(NotFound) as raised:
        platform_of(version(tmp_path, "README.md"))
    told, _, patterns = raised.value.message.partition("; looked for ")
    assert told == "no platform is configured, and none recognises the version by its files"
    assert {"*.onnx", "*.csv", "saved_model.pb", "model.tflite"} <= set(patterns.split(", "))


def test_a_directory_that_can_not_be_read_says_why(tmp_path: Path):
    (tmp_path / "1").symlink_to("1")
    with pytest.raises(InvalidArgument) as raised:
        platform_of(str(tmp_path / "1"))
    assert raised.value.message.startswith("the version can not be read: ")
    assert str(tmp_path) not in raised.value.message


TABLE = {
    "exact": PlatformRow("m:C", files=(ModelFile("saved.pb"),), beside=("about.pb",)),
    "graph": PlatformRow("m:C", files=(ModelFile("*.pb"),)),
    "marked": PlatformRow("m:C", files=(ModelFile("*.json", begins=rb'\s*\{"trees"'),)),
}


def test_a_whole_name_is_stronger_than_a_pattern_and_keeps_what_belongs_to_it(tmp_path: Path):
    version(tmp_path, "saved.pb", "about.pb")
    assert platform_of(str(tmp_path), TABLE) == "exact"
    (tmp_path / "saved.pb").unlink()
    assert platform_of(str(tmp_path), TABLE) == "graph"


def test_a_file_of_a_common_name_is_known_by_how_it_begins(tmp_path: Path):
    (tmp_path / "other.json").write_text('{"inputs": {}}')
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(NotFound):
        platform_of(str(tmp_path), TABLE)
    (tmp_path / "model.json").write_text(' {"trees": []}')
    assert platform_of(str(tmp_path), TABLE) == "marked"


def test_the_detected_platform_estimates_and_loads(tmp_path: Path):
    (tmp_path / "table.csv").write_text("a,b\n")
    platform = Platforms({}).get("")
    assert platform.estimate(str(tmp_path)) == ResourceAllocation.ram(12)
    assert platform.load(M1, str(tmp_path)).signatures.keys() == {"serving_default"}


def test_every_platform_can_be_recognised():
    assert [name for name, row in PLATFORMS.items() if not row.files] == []
