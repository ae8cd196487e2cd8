"""Object stores, read from a real S3 server on loopback."""

from __future__ import annotations

import hashlib
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import s3fs
from remote_stores import put, tar

from serving.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from serving.sources import fsspec_storage
from serving.sources.fsspec_storage import FsspecStorage
from serving.sources.storage import Digest, StoredFile, fingerprint

STORAGE = FsspecStorage()


def test_only_the_first_component_below_the_base_path_is_a_child(s3: Any):
    put(s3.bucket, "m", {"1/saved_model.pb": b"a", "1/variables/7/x": b"b", "20/f": b"c"})
    put(s3.bucket, "m2", {"3/f": b"d"})
    s3.bucket.put_object(Key="m/4", Body=b"a file is a child too")
    expected = {name: s3.uri(f"m/{name}") for name in ("1", "20", "4")}
    assert STORAGE.children(s3.uri("m")) == expected
    assert STORAGE.children(s3.uri("m/")) == expected


def test_objects_that_stand_for_directories_are_no_files_and_no_children(s3: Any):
    put(s3.bucket, "m", {"": b"", "1/": b"", "1/variables/": b"", "1/f": b"x"})
    assert list(STORAGE.children(s3.uri("m"))) == ["1"]
    assert [file.name for file in STORAGE.files(s3.uri("m/1"))] == ["f"]


def test_new_and_deleted_children_are_seen_at_once(s3: Any):
    put(s3.bucket, "m", {"1/f": b"x"})
    assert list(STORAGE.children(s3.uri("m"))) == ["1"]
    put(s3.bucket, "m", {"2/f": b"x"})
    assert list(STORAGE.children(s3.uri("m"))) == ["1", "2"]
    s3.bucket.Object("m/1/f").delete()
    assert list(STORAGE.children(s3.uri("m"))) == ["2"]


def test_files_are_named_below_the_version_with_their_sizes(s3: Any):
    put(s3.bucket, "m/1", {"saved_model.pb": b"graph", "variables/variables.index": b"abc"})
    files = STORAGE.files(s3.uri("m/1"))
    assert [(file.name, file.size_bytes) for file in files] == [
        ("saved_model.pb", 5),
        ("variables/variables.index", 3),
    ]
    assert files[1].uri == s3.uri("m/1/variables/variables.index")
    modified = s3.bucket.Object("m/1/saved_model.pb").last_modified
    assert files[0].modified_seconds == modified.timestamp()


def test_a_version_may_be_one_object(s3: Any):
    s3.bucket.put_object(Key="m/1", Body=b"k,v")
    (file,) = STORAGE.files(s3.uri("m/1"))
    assert (file.name, file.uri) == ("", s3.uri("m/1"))
    assert b"".join(STORAGE.read(file, 0)) == b"k,v"


def test_the_fingerprint_changes_with_the_content_also_where_the_size_does_not(s3: Any):
    put(s3.bucket, "m/1", {"f": b"old"})
    before = fingerprint(STORAGE.files(s3.uri("m/1")))
    assert fingerprint(STORAGE.files(s3.uri("m/1"))) == before
    put(s3.bucket, "m/1", {"f": b"new"})
    assert fingerprint(STORAGE.files(s3.uri("m/1"))) != before


@pytest.mark.parametrize("offset", [0, 1, 99_999, 100_000])
def test_reading_begins_anywhere_and_goes_in_parts(
    s3: Any, offset: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fsspec_storage, "_PART_BYTES", 10_000)
    content = bytes(range(250)) * 400
    put(s3.bucket, "m/1", {"f": content})
    (file,) = STORAGE.files(s3.uri("m/1"))
    assert b"".join(STORAGE.read(file, offset)) == content[offset:]


def test_an_archive_is_the_one_child_of_its_own_address(s3: Any):
    s3.bucket.put_object(Key="m/7.tar.gz", Body=tar({"f": b"x"}))
    assert STORAGE.children(s3.uri("m/7.tar.gz")) == {"7": s3.uri("m/7.tar.gz")}
    with pytest.raises(NotFound):
        STORAGE.children(s3.uri("m/8.tar.gz"))


@pytest.mark.parametrize("path", ["nothing", "nothing/1"])
def test_what_is_not_there_is_not_found(s3: Any, path: str):
    for look in (STORAGE.children, STORAGE.files):
        with pytest.raises(NotFound, match=s3.name):
            look(s3.uri(path))
        with pytest.raises(NotFound, match="no-such-bucket"):
            look(f"s3://no-such-bucket/{path}")


def test_an_object_that_is_gone_when_it_is_read_is_not_found(s3: Any):
    put(s3.bucket, "m/1", {"f": b"x"})
    (file,) = STORAGE.files(s3.uri("m/1"))
    s3.bucket.Object("m/1/f").delete()
    with pytest.raises(NotFound):
        list(STORAGE.read(file, 0))


def test_a_store_that_is_down_is_unavailable(s3: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3.proxy.cuts, s3.proxy.after_bytes = 1000, 0
    with pytest.raises(Unavailable, match="can not be read"):
        STORAGE.children(s3.uri("m"))


def test_a_store_that_does_not_answer_is_not_waited_for_long(
    s3: Any, monkeypatch: pytest.MonkeyPatch
):
    """Polls of all models follow one another, so a listing has a limit."""
    monkeypatch.setattr(fsspec_storage, "_LOOK_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(Unavailable, match="does not answer"):
            STORAGE.children(s3.uri("m"))


def test_a_refusal_is_permission_denied(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError("Access Denied")

    fs = SimpleNamespace(ls=refuse)
    monkeypatch.setattr(fsspec_storage, "url_to_fs", lambda *args, **kwargs: (fs, "bucket/m"))
    with pytest.raises(PermissionDenied, match="Access Denied"):
        STORAGE.children("s3://bucket/m")


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("s3://b/m", "s3fs", "s3"),
        ("gs://b/m", "gcsfs", "gcs"),
        ("abfs://c@account.dfs.core.windows.net/m", "adlfs", "azure"),
        ("abfss://c@account.dfs.core.windows.net/m", "adlfs", "azure"),
        ("hdfs://namenode:9000/m", "pyarrow", "hdfs"),
    ],
)
def test_a_missing_library_is_one_error_that_names_the_extra(
    uri: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    loaded = sys.modules["fsspec.registry"]._registry
    for name in set(loaded) - {"file", "local"}:
        monkeypatch.delitem(loaded, name)
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FailedPrecondition) as raised:
        STORAGE.children(uri)
    scheme = uri.partition(":")[0]
    assert raised.value.message == (
        f"reading {scheme}:// needs a library that is not installed: "
        f"pip install '.[{extra}]' in a checkout of this server"
    )


def test_a_uri_of_one_file_system_inside_another_is_refused():
    with pytest.raises(InvalidArgument, match="'::'"):
        STORAGE.children("s3://bucket/m::file:///etc")


class TestDigests:
    """What S3 says of an object's content is used where it is reliable."""

    def digest(self, s3: Any, key: str = "m/1/f") -> Digest | None:
        return STORAGE.digest(StoredFile("f", s3.uri(key), 7, ""))

    def test_an_etag_is_the_md5_of_an_object_put_in_one_piece(self, s3: Any):
        put(s3.bucket, "m/1", {"f": b"content"})
        assert self.digest(s3) == Digest("md5", hashlib.md5(b"content").digest())

    def test_a_sha256_is_preferred(self, s3: Any):
        s3.client.put_object(
            Bucket=s3.name, Key="m/1/f", Body=b"content", ChecksumAlgorithm="SHA256"
        )
        assert self.digest(s3) == Digest("sha256", hashlib.sha256(b"content").digest())

    def test_the_etag_of_a_multipart_object_is_no_digest(self, s3: Any):
        upload = s3.bucket.Object("m/1/f").initiate_multipart_upload()
        part = upload.Part(1).upload(Body=b"content")
        upload.complete(MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
        assert self.digest(s3) is None

    def test_the_etag_of_an_object_encrypted_by_kms_is_no_digest(self, s3: Any):
        s3.client.put_object(
            Bucket=s3.name, Key="m/1/f", Body=b"content", ServerSideEncryption="aws:kms"
        )
        assert self.digest(s3) is None

    def test_google_names_the_md5(self, monkeypatch: pytest.MonkeyPatch):
        info = {"md5Hash": "mgNkuembtIDdJeHwKEyFVQ=="}
        fs = SimpleNamespace(info=lambda path: info)
        monkeypatch.setattr(fsspec_storage, "url_to_fs", lambda *args, **kwargs: (fs, "b/f"))
        digest = STORAGE.digest(StoredFile("f", "gs://b/f", 7, ""))
        assert digest == Digest("md5", hashlib.md5(b"content").digest())
