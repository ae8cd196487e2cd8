"""What a path is: a version, a base path, one file; and what is said where it is none of these."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from serving.core.errors import InvalidArgument, NotFound, PermissionDenied
from serving.inspection.model_path import as_version, find_model, platform_of_model, size_of


def write(file: Path, content: str = "key,value\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def test_a_directory_with_a_models_files_is_a_version(tmp_path: Path):
    write(tmp_path / "words" / "7" / "table.csv")
    model = find_model(str(tmp_path / "words" / "7"))
    assert (model.kind, model.name, model.version) == ("version", "words", 7)
    assert platform_of_model(model) == "hashmap"


def test_a_version_needs_no_number(tmp_path: Path):
    write(tmp_path / "words" / "table.csv")
    model = find_model(str(tmp_path / "words"))
    assert (model.kind, model.name, model.version) == ("version", "words", None)


def test_of_a_directory_of_versions_the_newest_is_meant(tmp_path: Path):
    for version in (2, 10, 9):
        write(tmp_path / "words" / str(version) / "table.csv")
    model = find_model(str(tmp_path / "words"))
    assert (model.kind, model.name) == ("base_path", "words")
    assert (model.version, model.versions) == (10, (10, 9, 2))
    assert model.path == tmp_path / "words" / "10"


def test_a_file_beside_the_versions_is_none_of_a_model(tmp_path: Path):
    """As it is for a server, which looks at directories of numbers only."""
    write(tmp_path / "m" / "1" / "model.onnx")
    write(tmp_path / "m" / "labels.csv")
    model = find_model(str(tmp_path / "m"))
    assert (model.kind, model.versions) == ("base_path", (1,))
    assert platform_of_model(model) == "onnx"


def test_a_version_may_hold_directories_of_numbers(tmp_path: Path):
    write(tmp_path / "words" / "table.csv")
    write(tmp_path / "words" / "2024" / "notes.md")
    assert find_model(str(tmp_path / "words")).kind == "version"


def test_the_current_directory_has_a_name(tmp_path: Path, monkeypatch):
    write(tmp_path / "words" / "1" / "table.csv")
    monkeypatch.chdir(tmp_path / "words")
    assert find_model(".").name == "words"


def test_a_file_is_a_model_by_itself(tmp_path: Path):
    model = find_model(str(write(tmp_path / "words.csv")))
    assert (model.kind, model.name) == ("file", "words")
    assert size_of(model) == (1, 10)


def test_a_file_that_is_called_as_all_are_has_the_models_name(tmp_path: Path):
    assert find_model(str(write(tmp_path / "half" / "3" / "model.onnx"))).name == "half"


def test_a_file_alone_is_loaded_from_where_it_lies(tmp_path: Path):
    model = find_model(str(write(tmp_path / "words.csv")))
    write(tmp_path / "README")
    with as_version(model) as directory:
        assert directory == str(tmp_path)


def test_a_file_beside_other_models_is_loaded_without_them(tmp_path: Path):
    """What belongs to no model, as signature.json, comes along."""
    model = find_model(str(write(tmp_path / "words.csv")))
    write(tmp_path / "others.csv")
    write(tmp_path / "signature.json", "{}")
    with as_version(model) as directory:
        assert sorted(file.name for file in Path(directory).iterdir()) == [
            "signature.json",
            "words.csv",
        ]
        assert Path(directory, "words.csv").read_text() == "key,value\n"
    assert not Path(directory).exists()


def test_links_beside_other_models_lead_to_their_files(tmp_path: Path):
    """Caches of downloads have such: names that lead to where the contents lie."""
    write(tmp_path / "contents" / "1234", "a,1\n")
    write(tmp_path / "contents" / "5678", "{}")
    names = tmp_path / "names"
    write(names / "others.csv")
    (names / "words.csv").symlink_to("../contents/1234")
    (names / "signature.json").symlink_to("../contents/5678")
    with as_version(find_model(str(names / "words.csv"))) as directory:
        assert Path(directory, "words.csv").read_text() == "a,1\n"
        assert Path(directory, "signature.json").read_text() == "{}"


def test_nothing_is_copied_to_another_file_system(tmp_path: Path, monkeypatch):
    """A neighbour may be larger than the memory that such a file system is in.

    Nor are links of two kinds mixed, where one file is another user's.
    """
    model = find_model(str(write(tmp_path / "words.csv")))
    write(tmp_path / "others.csv")
    write(tmp_path / "disk.iso", "large")
    linked = []

    def link(source: object, target: object, **_more: object) -> None:
        linked.append(target)
        if len(linked) > 1:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        Path(str(target)).write_text("a first one, which went well")

    monkeypatch.setattr(os, "link", link)
    with as_version(model) as directory:
        files = sorted(Path(directory).iterdir())
        assert [file.name for file in files] == ["disk.iso", "words.csv"]
        assert [file.readlink() for file in files] == [tmp_path / file.name for file in files]
    assert len(linked) == 2
    assert (tmp_path / "disk.iso").exists()


def test_files_of_several_platforms_are_named(tmp_path: Path):
    write(tmp_path / "table.csv")
    write(tmp_path / "model.onnx")
    model = find_model(str(tmp_path))
    assert model.platforms == {"hashmap": ["table.csv"], "onnx": ["model.onnx"]}
    with pytest.raises(InvalidArgument, match=r"hashmap \(table.csv\); onnx .*--platform"):
        platform_of_model(model)


def test_what_is_no_model_is_said(tmp_path: Path):
    write(tmp_path / "notes.md")
    with pytest.raises(NotFound, match="no files that a platform is known by"):
        platform_of_model(find_model(str(tmp_path)))


def test_what_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(NotFound, match=r"there is no .*/absent"):
        find_model(str(tmp_path / "absent"))
    with pytest.raises(InvalidArgument, match="can not be read"):
        find_model("/a\0b")
    with pytest.raises(InvalidArgument, match="not on this machine"):
        find_model("s3://bucket/model")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(tmp_path: Path):
    tmp_path.chmod(0)
    try:
        with pytest.raises(PermissionDenied, match="may not be read"):
            find_model(str(tmp_path))
    finally:
        tmp_path.chmod(0o700)
