"""What reads which path or URI, the local storage, and what identifies a version's files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.core.errors import InvalidArgument, NotFound
from serving.sources.fsspec_storage import EXTRAS, FsspecStorage
from serving.sources.http_storage import HttpStorage
from serving.sources.local_storage import LocalStorage
from serving.sources.storage import (
    StoredFile,
    fingerprint,
    is_remote,
    without_secrets,
)
from serving.sources.storages import STORAGES, remote_storage_for, storage_for


@pytest.mark.parametrize(
    ("uri", "storage"),
    [
        ("/models/m", LocalStorage),
        ("/models/s3:/m", LocalStorage),
        ("file:///models/m", LocalStorage),
        ("http://host/m.tar", HttpStorage),
        ("HTTPS://host/m.tar", HttpStorage),
        ("s3://bucket/m", FsspecStorage),
        ("s3a://bucket/m", FsspecStorage),
        ("gs://bucket/m", FsspecStorage),
        ("abfs://container@account.dfs.core.windows.net/m", FsspecStorage),
        ("hdfs://namenode/m", FsspecStorage),
    ],
)
def test_the_scheme_says_which_storage_reads(uri: str, storage: type):
    assert type(storage_for(uri)) is storage
    assert is_remote(uri) == (storage is not LocalStorage)


def test_an_unknown_scheme_is_refused_with_those_there_are():
    with pytest.raises(InvalidArgument) as raised:
        storage_for("ftp://host/m")
    assert raised.value.message == (
        "there is no storage for ftp://; there are:"
        " abfs, abfss, az, file, gcs, gs, hdfs, http, https, s3, s3a"
    )


def test_every_scheme_of_an_optional_library_has_its_storage():
    assert {scheme for scheme in STORAGES if STORAGES[scheme].endswith("FsspecStorage")} == set(
        EXTRAS
    )


def test_a_local_file_is_not_read_as_a_remote_one(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="is not remote"):
        remote_storage_for(f"file://{tmp_path}")


def test_local_paths_import_neither_fsspec_nor_http(tmp_path: Path):
    (tmp_path / "1").mkdir()
    program = (
        "import sys; from serving.sources.storages import storage_for;"
        f"print(*storage_for({str(tmp_path)!r}).children({str(tmp_path)!r}));"
        "print({'fsspec', 'http.client', 'urllib.request'} & sys.modules.keys())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "1\nset()\n"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_local_children_are_paths(tmp_path: Path, form: str):
    (tmp_path / "7").mkdir()
    (tmp_path / "8").touch()
    children = LocalStorage().children(form.format(tmp_path))
    assert children == {"7": f"{tmp_path}/7", "8": f"{tmp_path}/8"}


def test_a_file_uri_may_be_quoted(tmp_path: Path):
    (tmp_path / "a b" / "1").mkdir(parents=True)
    assert list(LocalStorage().children(f"file://{tmp_path}/a%20b")) == ["1"]


def test_local_files_are_told_by_size_and_modification_time(tmp_path: Path):
    version = tmp_path / "1"
    (version / "variables").mkdir(parents=True)
    (version / "variables" / "x").write_bytes(b"abc")
    (version / "f").write_bytes(b"")
    files = LocalStorage().files(str(version))
    assert [(file.name, file.size_bytes) for file in files] == [("f", 0), ("variables/x", 3)]
    (only,) = LocalStorage().files(str(version / "variables" / "x"))
    assert (only.name, only.size_bytes, only.tag) == ("", 3, files[1].tag)


def test_a_missing_directory_is_not_found(tmp_path: Path):
    for look in (LocalStorage().children, LocalStorage().files):
        with pytest.raises(NotFound, match="No such file or directory"):
            look(str(tmp_path / "missing"))


def test_a_name_that_no_file_can_have_is_not_found():
    with pytest.raises(NotFound, match="null byte"):
        LocalStorage().children("/models/\0")


def test_the_fingerprint_depends_on_names_sizes_and_tags_and_not_on_order():
    a, b = StoredFile("a", "s3://b/a", 1, "x"), StoredFile("b", "s3://b/b", 1, "x")
    assert fingerprint([a, b]) == fingerprint([b, a])
    others = [
        [a],
        [a, StoredFile("c", b.uri, 1, "x")],
        [a, StoredFile("b", b.uri, 2, "x")],
        [a, StoredFile("b", b.uri, 1, "y")],
        [a, StoredFile("b", b.uri, None, "x")],
    ]
    assert len({fingerprint(files) for files in [[a, b], *others]}) == 6


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:pass@host:8/m.zip?X-Amz-Signature=abc#f", "https://host:8/m.zip"),
        ("s3://bucket/m/1?versionId=2", "s3://bucket/m/1?versionId=2"),
        ("abfs://container@account.dfs.core.windows.net/m", None),
        ("/models/m", None),
    ],
)
def test_secrets_of_web_addresses_are_not_shown(uri: str, shown: str | None):
    assert without_secrets(uri) == (shown or uri)
