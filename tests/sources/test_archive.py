"""Archives: names, versions, and unpacking what nobody vouches for."""

from __future__ import annotations

import stat
import tarfile
from pathlib import Path

import pytest
from remote_stores import special, tar, zipped

from serving.core.errors import DataLoss, InvalidArgument, ResourceExhausted
from serving.sources import archive
from serving.sources.archive import (
    archive_version,
    content_root,
    is_archive,
    relative_parts,
    unpack,
)

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index" * 1000, "empty": b""}


def unpacked(tmp_path: Path, content: bytes, name: str = "m.tar.gz") -> Path:
    packed, target = tmp_path / "packed", tmp_path / "content"
    packed.write_bytes(content)
    unpack(packed, f"https://host/{name}?signature=x", target, lambda size_bytes: None)
    return target


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("uri", "version"),
    [
        ("https://host/m.tar.gz", "1"),
        ("https://host/models/7.tar.gz", "7"),
        ("https://host/models/0042.ZIP?sig=a/b.tar", "0042"),
        ("s3://bucket/7/m.tgz", "1"),
        ("https://host/m-7.tar", "1"),
        ("https://host/7.1.tar", "1"),
    ],
)
def test_an_archive_is_the_version_that_its_name_is_or_else_1(uri: str, version: str):
    assert is_archive(uri)
    assert archive_version(uri) == version


@pytest.mark.parametrize(
    "uri", ["s3://b/m", "s3://b/m.tar/x", "https://h/m.gz", "https://h/?m.zip"]
)
def test_what_is_no_archive(uri: str):
    assert not is_archive(uri)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.tar.gz", tar(FILES)),
        ("m.tgz", tar(FILES)),
        ("m.tar", tar(FILES, compress=False)),
        ("m.zip", zipped(FILES)),
        (
            "m.TAR.GZ",
            tar({"./": special("./", tarfile.DIRTYPE)} | {f"./{k}": FILES[k] for k in FILES}),
        ),
    ],
)
def test_every_format_comes_out_as_it_went_in(tmp_path: Path, name: str, content: bytes):
    assert contents(unpacked(tmp_path, content, name)) == FILES


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "..", "", "a\0b"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str):
    with pytest.raises(InvalidArgument, match="leads out"):
        relative_parts(name)
    if "\0" in name or not name:
        return
    for content, format_ in (
        (tar({"f": b"x", name: b"y"}), "tar.gz"),
        (zipped({name: b""}), "zip"),
    ):
        with pytest.raises(InvalidArgument, match="leads out"):
            unpacked(tmp_path, content, f"m.{format_}")
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]
    assert not (tmp_path.parent / "x").exists()


@pytest.mark.parametrize("name", ["../", "/abs/", "a/../../b/"])
def test_directories_that_lead_out_are_refused_too(tmp_path: Path, name: str):
    with pytest.raises(InvalidArgument, match="leads out"):
        unpacked(tmp_path, tar({name: special(name, tarfile.DIRTYPE)}))
    with pytest.raises(InvalidArgument, match="leads out"):
        unpacked(tmp_path, zipped({name: b""}), "m.zip")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused_before_anything_is_written(tmp_path: Path, kind: bytes):
    content = tar({"f": b"x", "evil": special("evil", kind, "/etc/passwd")})
    with pytest.raises(InvalidArgument, match="'evil', a link or a device"):
        unpacked(tmp_path, content)
    assert not (tmp_path / "content").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="a link or a device"):
        unpacked(tmp_path, zipped({"evil": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777), "m.zip")


def test_an_encrypted_zip_is_refused(tmp_path: Path):
    content = bytearray(zipped({"f": b"x"}))
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    with pytest.raises(InvalidArgument, match="encrypted"):
        unpacked(tmp_path, bytes(content), "m.zip")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (tar({"zeros": b"\0" * 20_000_000}), "m.tar.gz"),
        (zipped({"zeros": b"\0" * 20_000_000}), "m.zip"),
        (tar({str(i): b"" for i in range(60)}), "m.tar.gz"),
    ],
    ids=["tar", "zip", "many"],
)
def test_bombs_are_refused_before_anything_is_written(
    tmp_path: Path, content: bytes, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archive, "_SMALL_BYTES", 1_000_000)
    monkeypatch.setattr(archive, "_MOST_MEMBERS", 50)
    with pytest.raises(InvalidArgument, match="would unpack to more than"):
        unpacked(tmp_path, content, name)
    assert not (tmp_path / "content").exists()


def test_a_zip_that_holds_more_than_it_declares_is_damaged(tmp_path: Path):
    content = bytearray(zipped({"f": b"x" * 1000}))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(DataLoss):
        unpacked(tmp_path, bytes(content), "m.zip")


@pytest.mark.parametrize("name", ["m.tar.gz", "m.tar", "m.zip"])
def test_what_is_no_archive_inside_is_damaged(tmp_path: Path, name: str):
    for content in (b"", b"<html>Not what you wanted</html>"):
        with pytest.raises(DataLoss, match="can not be read"):
            unpacked(tmp_path, content, name)


def test_a_cut_archive_is_damaged(tmp_path: Path):
    content = tar({"f": bytes(range(256)) * 4000})
    with pytest.raises(DataLoss):
        unpacked(tmp_path, content[: len(content) // 2])


def test_one_name_twice_and_a_file_that_is_a_directory_are_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="twice"):
        unpacked(tmp_path, tar({"f": b"x", "./f": b"y"}))
    with pytest.raises(InvalidArgument, match="below a file"):
        unpacked(tmp_path, tar({"f": b"x", "f/g": b"y"}))


def test_room_is_asked_for_before_anything_is_written(tmp_path: Path):
    asked = []

    def full(size_bytes: int) -> None:
        asked.append(size_bytes)
        raise ResourceExhausted("full")

    (tmp_path / "packed").write_bytes(tar(FILES))
    with pytest.raises(ResourceExhausted):
        unpack(tmp_path / "packed", "m.tar.gz", tmp_path / "content", full)
    assert asked == [5005]
    assert not (tmp_path / "content").exists()


@pytest.mark.parametrize("prefix", ["", "1/", "half_plus_two/00000123/"])
def test_the_model_begins_below_directories_that_hold_nothing_else(tmp_path: Path, prefix: str):
    root = unpacked(tmp_path, tar({f"{prefix}{name}": FILES[name] for name in FILES}))
    assert content_root(root) == root / prefix
    assert contents(content_root(root)) == FILES


def test_several_versions_in_one_archive_are_refused_by_their_numbers(tmp_path: Path):
    root = unpacked(tmp_path, tar({"m/1/f": b"", "m/2/f": b""}))
    with pytest.raises(InvalidArgument, match=r"several versions \(1, 2\)"):
        content_root(root)
