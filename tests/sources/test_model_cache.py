"""Copies of remote versions: made once, whole, checked, kept within limits, and never half."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import s3fs
from remote_stores import Impatient, WebServer, put, tar, zipped
from waiting import WAIT_SECONDS

from serving.core.errors import (
    Cancelled,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving.sources import download as download_module
from serving.sources import model_cache
from serving.sources.download import ATTEMPTS
from serving.sources.model_cache import LocalCopy, ModelCache, ModelCacheOptions
from serving.sources.storage import Digest, StoredFile

FILES = {"saved_model.pb": b"graph" * 100, "variables/variables.data": bytes(range(256)) * 4000}


class MemoryStore:
    """A store of one version whose every answer a test can choose. Implements RemoteStorage."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.contents = dict(files)
        self.reads = 0
        self.checksum: Digest | None = None
        self.on_read: Callable[[], object] = lambda: None

    def children(self, base_path: str) -> Mapping[str, str]:
        raise AssertionError("a cache lists no base paths")

    def files(self, path: str) -> Sequence[StoredFile]:
        return [
            StoredFile(name, f"{path}/{name}", len(content), hashlib.md5(content).hexdigest())
            for name, content in self.contents.items()
        ]

    def read(self, file: StoredFile, offset: int) -> Iterator[bytes]:
        self.reads += 1
        self.on_read()
        yield self.contents[file.name][offset:]

    def digest(self, file: StoredFile) -> Digest | None:
        return self.checksum


def cache(directory: Path, store: MemoryStore | None = None, max_bytes: int = 0) -> ModelCache:
    options = ModelCacheOptions(str(directory), max_bytes)
    if store is None:
        return ModelCache(options, Impatient())
    return ModelCache(options, Impatient(), lambda uri: store)


def contents(root: str | Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file()
    }


def names(directory: Path) -> set[str]:
    """What a cache directory holds, in kinds: "entry", ".lock", ".partial"."""
    return {path.suffix or "entry" for path in directory.iterdir()} if directory.exists() else set()


class TestS3:
    """From a real S3 server, through a proxy that can cut."""

    def test_a_version_arrives_as_it_is_and_is_downloaded_once(self, s3: Any, tmp_path: Path):
        put(s3.bucket, "m/1", FILES)
        models = cache(tmp_path)
        first, second = models.lease(s3.uri("m/1")), models.lease(s3.uri("m/1"))
        assert contents(first.path) == FILES
        assert first.path == second.path
        s3.bucket.Object("m/1/saved_model.pb").delete()
        assert contents(first.path) == FILES

    def test_a_version_that_changed_in_its_place_is_another_copy(self, s3: Any, tmp_path: Path):
        put(s3.bucket, "m/1", {"f": b"old"})
        models = cache(tmp_path)
        old = models.lease(s3.uri("m/1"))
        put(s3.bucket, "m/1", {"f": b"new"})
        new = models.lease(s3.uri("m/1"))
        assert (contents(old.path), contents(new.path)) == ({"f": b"old"}, {"f": b"new"})

    def test_a_version_that_is_one_object_is_one_file(self, s3: Any, tmp_path: Path):
        s3.bucket.put_object(Key="m/1", Body=b"key,value")
        assert Path(cache(tmp_path).lease(s3.uri("m/1")).path).read_bytes() == b"key,value"

    def test_an_archive_in_a_bucket_is_unpacked(self, s3: Any, tmp_path: Path):
        s3.bucket.put_object(Key="m/3.tar.gz", Body=tar(FILES))
        assert contents(cache(tmp_path).lease(s3.uri("m/3.tar.gz")).path) == FILES

    def test_a_transfer_that_is_cut_is_taken_up_again(
        self, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        put(s3.bucket, "m/1", FILES)
        s3.proxy.cuts, s3.proxy.after_bytes = ATTEMPTS - 1, 500_000
        assert contents(cache(tmp_path).lease(s3.uri("m/1")).path) == FILES
        assert s3.proxy.cuts == 0

    def test_a_transfer_that_is_always_cut_is_unavailable_and_leaves_nothing(
        self, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        put(s3.bucket, "m/1", FILES)
        s3.proxy.cuts, s3.proxy.after_bytes = 1000, 500_000
        models = cache(tmp_path)
        with pytest.raises(Unavailable, match=r"m/1/variables/variables.data failed 4 times"):
            models.lease(s3.uri("m/1"))
        assert names(tmp_path) == set()
        s3.proxy.cuts = 0
        assert contents(models.lease(s3.uri("m/1")).path) == FILES

    @pytest.mark.parametrize("key", ["m/1/../../../evil", "m/1//f", "m/1/a/../b", "m/1/./../f"])
    def test_object_names_that_lead_out_are_refused(self, s3: Any, tmp_path: Path, key: str):
        store = MemoryStore({})
        store.files = lambda path: [StoredFile(key.removeprefix("m/1/"), s3.uri(key), 1, "")]
        with pytest.raises(InvalidArgument, match="leads out"):
            cache(tmp_path / "cache", store).lease(s3.uri("m/1"))
        assert names(tmp_path / "cache") == set()

    def test_a_version_that_is_not_there_is_not_found(self, s3: Any, tmp_path: Path):
        with pytest.raises(NotFound, match="m/1"):
            cache(tmp_path).lease(s3.uri("m/1"))


class TestWeb:
    """From a real web server."""

    @pytest.mark.parametrize("ranges", [True, False])
    def test_a_cut_transfer_is_taken_up_where_it_was_cut(
        self, web: WebServer, tmp_path: Path, ranges: bool
    ):
        web.files["/m.tar.gz"], web.ranges = tar(FILES), ranges
        web.cuts = [100, 10, 1000]
        assert contents(cache(tmp_path).lease(f"{web.url}/m.tar.gz").path) == FILES
        offsets = [headers.get("Range") for method, _, headers in web.requests if method == "GET"]
        assert offsets[:2] == [None, "bytes=100-"]

    def test_a_transfer_cut_each_time_is_given_up(self, web: WebServer, tmp_path: Path):
        web.files["/m.zip"] = zipped(FILES)
        web.cuts = [10] * ATTEMPTS
        with pytest.raises(Unavailable, match=r"failed 4 times: the transfer ended after 40 of"):
            cache(tmp_path).lease(f"{web.url}/m.zip?secret")
        assert web.count("GET") == ATTEMPTS
        assert names(tmp_path) == set()

    def test_an_etag_that_changed_is_a_new_copy(self, web: WebServer, tmp_path: Path):
        models = cache(tmp_path)
        copies = []
        for content in (b"old", b"new"):
            web.files["/m.zip"] = zipped({"f": content})
            copies.append(models.lease(f"{web.url}/m.zip"))
        assert [contents(copy.path) for copy in copies] == [{"f": b"old"}, {"f": b"new"}]

    def test_the_checksum_of_the_server_is_held_against_the_content(
        self, web: WebServer, tmp_path: Path
    ):
        web.files["/m.zip"] = zipped(FILES)
        web.headers = {"X-Checksum-Sha256": hashlib.sha256(b"other").hexdigest()}
        with pytest.raises(DataLoss, match="another sha256"):
            cache(tmp_path).lease(f"{web.url}/m.zip")
        assert names(tmp_path) == set()

    def test_an_evil_archive_leaves_nothing(self, web: WebServer, tmp_path: Path):
        web.files["/m.tar.gz"] = tar({"f": b"x", "../../evil": b"y"})
        with pytest.raises(InvalidArgument, match="leads out"):
            cache(tmp_path / "cache").lease(f"{web.url}/m.tar.gz")
        assert contents(tmp_path) == {}

    def test_what_is_unpacked_counts_against_the_limit(self, web: WebServer, tmp_path: Path):
        web.files["/m.tar.gz"] = tar({"f": b"\0" * 1_000_000})
        with pytest.raises(ResourceExhausted, match="limit 100000 bytes"):
            cache(tmp_path, max_bytes=100_000).lease(f"{web.url}/m.tar.gz")
        assert names(tmp_path) == set()

    def test_kill_9_leaves_a_part_that_the_next_start_removes_but_nobody_elses(
        self, web: WebServer, tmp_path: Path
    ):
        stalled, go_on = threading.Semaphore(0), threading.Event()
        web.files["/m.tar.gz"], web.files["/n.tar.gz"] = tar(FILES), tar({"g": b"x" * 100_000})
        web.cuts = [1000, 1000]
        web.before_end = lambda: (stalled.release(), go_on.wait(WAIT_SECONDS))
        program = (
            "import sys; from serving.core.clock import SystemClock;"
            "from serving.sources.model_cache import *;"
            "ModelCache(ModelCacheOptions(sys.argv[1]), SystemClock()).lease(sys.argv[2])"
        )
        command = [sys.executable, "-c", program, str(tmp_path), f"{web.url}/m.tar.gz"]
        with subprocess.Popen(command) as killed:
            assert stalled.acquire(timeout=WAIT_SECONDS)
            mine: list[LocalCopy] = []
            models = cache(tmp_path)
            thread = threading.Thread(
                target=lambda: mine.append(models.lease(f"{web.url}/n.tar.gz")), daemon=True
            )
            thread.start()
            assert stalled.acquire(timeout=WAIT_SECONDS)
            assert len(list(tmp_path.glob("*.partial"))) == 2
            cache(tmp_path).start()
            assert len(list(tmp_path.glob("*.partial"))) == 2
            killed.send_signal(signal.SIGKILL)
        cache(tmp_path).start()
        assert len(list(tmp_path.glob("*.partial"))) == 1
        go_on.set()
        thread.join(WAIT_SECONDS)
        assert contents(mine[0].path) == {"g": b"x" * 100_000}
        assert contents(cache(tmp_path).lease(f"{web.url}/m.tar.gz").path) == FILES


def test_concurrent_requests_for_one_version_download_it_once(tmp_path: Path):
    store = MemoryStore({"f": b"x"})
    everybody = threading.Barrier(4)
    copies: list[LocalCopy] = []

    def lease(models: ModelCache) -> None:
        everybody.wait(WAIT_SECONDS)
        copies.append(models.lease("s3://b/m/1"))

    # Two caches stand for two processes: what they share is the directory.
    shared = [cache(tmp_path, store), cache(tmp_path, store)] * 2
    threads = [threading.Thread(target=lease, args=(it,), daemon=True) for it in shared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert store.reads == 1
    assert len({copy.path for copy in copies}) == 1
    assert len(copies) == 4


def test_who_looked_just_before_a_copy_was_made_and_leased_gets_it_too(tmp_path: Path):
    """The lease lasts as long as the model is loaded: nobody may wait for its end."""
    store = MemoryStore({"f": b"x"})
    first = cache(tmp_path, store).lease("s3://b/m/1")
    late = cache(tmp_path, store)
    looks, really_find = [None], late._find
    late._find = lambda key: looks.pop() if looks else really_find(key)
    copies: list[LocalCopy] = []
    thread = threading.Thread(target=lambda: copies.append(late.lease("s3://b/m/1")), daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert [copy.path for copy in copies] == [first.path]
    assert store.reads == 1


def test_while_it_arrives_no_part_of_a_version_is_where_versions_are(tmp_path: Path):
    store = MemoryStore({"a": b"x", "b": b"y"})
    seen: list[set[str]] = []
    store.on_read = lambda: seen.append(names(tmp_path))
    cache(tmp_path, store).lease("s3://b/m/1").release()
    assert seen == [{".lock", ".partial"}] * 2
    assert names(tmp_path) == {"entry", ".lock"}


def test_a_version_that_changes_while_it_is_downloaded_is_not_kept(tmp_path: Path):
    store = MemoryStore({"a": b"1", "b": b"1"})
    store.on_read = lambda: store.contents.update(b=b"2")
    with pytest.raises(Unavailable, match="changed while it was downloaded"):
        cache(tmp_path, store).lease("s3://b/m/1")
    assert names(tmp_path) == set()
    assert contents(cache(tmp_path, store).lease("s3://b/m/1").path) == {"a": b"1", "b": b"2"}


def test_content_with_another_checksum_is_not_kept(tmp_path: Path):
    store = MemoryStore({"f": b"content"})
    store.checksum = Digest("md5", hashlib.md5(b"other").digest())
    with pytest.raises(DataLoss, match="s3://b/m/1/f arrived with another md5"):
        cache(tmp_path, store).lease("s3://b/m/1")
    assert names(tmp_path) == set()


def test_objects_below_an_object_are_refused(tmp_path: Path):
    for files in ({"a": b"", "a/b": b""}, {"": b"", "a": b""}):
        with pytest.raises(InvalidArgument, match="below what is a file"):
            cache(tmp_path, MemoryStore(files)).lease("s3://b/m/1")


class TestRoom:
    """The limit, eviction, and full disks."""

    def models(self, tmp_path: Path, max_bytes: int) -> tuple[ModelCache, dict[str, MemoryStore]]:
        stores = {f"s3://b/m/{n}": MemoryStore({"f": bytes([n]) * 100}) for n in range(1, 5)}
        options = ModelCacheOptions(str(tmp_path), max_bytes)
        return ModelCache(options, Impatient(), stores.__getitem__), stores

    def use(self, tmp_path: Path, models: ModelCache, uri: str, at: int) -> None:
        """Lease, release, and say when that was."""
        copy = models.lease(uri)
        copy.release()
        key = Path(copy.path).parent.name
        os.utime(tmp_path / f"{key}.lock", (at, at))

    def test_the_least_recently_used_copies_make_room(self, tmp_path: Path):
        models, stores = self.models(tmp_path, max_bytes=350)
        for n, at in ((1, 10), (2, 20), (3, 30), (1, 40)):
            self.use(tmp_path, models, f"s3://b/m/{n}", at)
        models.lease("s3://b/m/4")
        for n in (1, 3, 4):
            models.lease(f"s3://b/m/{n}").release()
        assert [store.reads for store in stores.values()] == [1, 1, 1, 1]
        models.lease("s3://b/m/2")
        assert stores["s3://b/m/2"].reads == 2

    def test_a_copy_was_used_until_it_was_released(self, tmp_path: Path):
        models, _ = self.models(tmp_path, max_bytes=250)
        long_in_use = models.lease("s3://b/m/1")
        key = Path(long_in_use.path).parent.name
        os.utime(tmp_path / f"{key}.lock", (10, 10))
        self.use(tmp_path, models, "s3://b/m/2", at=20)
        long_in_use.release()
        models.lease("s3://b/m/3")
        assert Path(long_in_use.path).exists()

    def test_copies_in_use_are_not_evicted_not_even_by_another_process(self, tmp_path: Path):
        models, _ = self.models(tmp_path, max_bytes=250)
        other, _ = self.models(tmp_path, max_bytes=250)
        copies = [models.lease("s3://b/m/1"), models.lease("s3://b/m/2")]
        with pytest.raises(ResourceExhausted) as raised:
            other.lease("s3://b/m/3")
        assert raised.value.message == (
            f"there is no room in the model cache {tmp_path} (limit 250 bytes) for"
            " s3://b/m/3, which needs 100 bytes"
        )
        assert all(Path(copy.path, "f").exists() for copy in copies)
        copies[0].release()
        copies[0].release()
        other.lease("s3://b/m/3")
        assert [Path(copy.path).exists() for copy in copies] == [False, True]

    def test_a_version_above_the_limit_evicts_nothing(self, tmp_path: Path):
        models, _ = self.models(tmp_path, max_bytes=150)
        kept = models.lease("s3://b/m/1")
        kept.release()
        big = ModelCache(
            ModelCacheOptions(str(tmp_path), 150),
            Impatient(),
            lambda uri: MemoryStore({"f": b"x" * 151}),
        )
        with pytest.raises(ResourceExhausted, match="needs 151 bytes"):
            big.lease("s3://b/m/big")
        assert Path(kept.path).exists()

    def test_what_arrives_at_the_same_time_counts_too(self, tmp_path: Path):
        models, stores = self.models(tmp_path, max_bytes=150)
        errors: list[ServingError] = []

        def second() -> None:
            try:
                models.lease("s3://b/m/2")
            except ServingError as error:
                errors.append(error)

        def while_the_first_arrives() -> None:
            thread = threading.Thread(target=second, daemon=True)
            thread.start()
            thread.join(WAIT_SECONDS)

        stores["s3://b/m/1"].on_read = while_the_first_arrives
        models.lease("s3://b/m/1")
        assert [type(error) for error in errors] == [ResourceExhausted]

    def test_a_disk_with_too_little_left_is_seen_beforehand_after_evicting(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        models, stores = self.models(tmp_path, max_bytes=0)
        old = models.lease("s3://b/m/1")
        old.release()
        usage = shutil.disk_usage(tmp_path)
        full = usage._replace(free=99)
        monkeypatch.setattr(model_cache.shutil, "disk_usage", lambda path: full)
        with pytest.raises(ResourceExhausted, match=r"no limit.*needs 100 bytes"):
            models.lease("s3://b/m/2")
        assert stores["s3://b/m/2"].reads == 0
        assert not Path(old.path).exists()

    def test_what_has_arrived_of_an_archive_needs_no_room_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        content = os.urandom(500)
        archive = zipped({"f": content})
        disk_bytes = len(archive) + 600
        store = MemoryStore({"": archive})

        real = shutil.disk_usage(tmp_path)

        def usage(root: Path) -> Any:
            used = sum(path.stat().st_size for path in Path(root).rglob("archive"))
            return real._replace(free=disk_bytes - used)

        monkeypatch.setattr(model_cache.shutil, "disk_usage", usage)
        assert contents(cache(tmp_path, store).lease("s3://b/7.zip").path) == {"f": content}

    def test_a_disk_that_becomes_full_is_resource_exhausted_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """/dev/full is the kernel's own disk without room: every write ends in ENOSPC."""
        put_together = Path.open

        def on_full_disk(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            full = mode == "xb"
            return (
                put_together(Path("/dev/full"), "wb")
                if full
                else put_together(path, mode, *args, **kwargs)
            )

        monkeypatch.setattr(Path, "open", on_full_disk)
        models, _ = self.models(tmp_path, max_bytes=0)
        with pytest.raises(ResourceExhausted) as raised:
            models.lease("s3://b/m/1")
        assert raised.value.message == (
            f"there is no room in the model cache {tmp_path} (no limit) for"
            " s3://b/m/1, which needs 100 bytes"
        )
        assert names(tmp_path) == set()

    def test_a_disk_that_is_found_full_when_files_are_synced_is_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(download_module.os, "fsync", full)
        models, _ = self.models(tmp_path, max_bytes=0)
        with pytest.raises(ResourceExhausted, match=str(tmp_path)):
            models.lease("s3://b/m/1")
        assert names(tmp_path) == set()


def test_a_directory_that_can_not_be_used_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(
        FailedPrecondition, match=r"/file/cache can not be used \(Not a directory\)"
    ):
        cache(tmp_path / "file" / "cache", MemoryStore({"f": b""})).lease("s3://b/m/1")


def test_starting_makes_no_directory_and_leaves_what_is_not_its_own(tmp_path: Path):
    cache(tmp_path / "missing").start()
    assert not (tmp_path / "missing").exists()
    for name in ("mine.lock", "mine.partial", "notes"):
        (tmp_path / name).touch()
    (tmp_path / f"{'a' * 64}.partial").mkdir()
    (tmp_path / f"{'b' * 64}.lock").touch()
    cache(tmp_path).start()
    assert {path.name for path in tmp_path.iterdir()} == {"mine.lock", "mine.partial", "notes"}


@pytest.mark.parametrize("manifest", ["", "{", "[]", "{}", '{"model": 1, "size_bytes": 1}'])
def test_an_entry_that_the_disk_has_lost_is_made_anew_and_disturbs_no_other(
    tmp_path: Path, manifest: str
):
    models = cache(tmp_path, MemoryStore(FILES))
    lost = models.lease("s3://b/m/1")
    entry = Path(lost.path).parent
    lost.release()
    (entry / "entry.json").write_text(manifest)
    assert contents(models.lease("s3://b/m/2").path) == FILES
    assert contents(models.lease("s3://b/m/1").path) == FILES


def test_starting_removes_an_entry_that_the_disk_has_lost(tmp_path: Path):
    lost = cache(tmp_path, MemoryStore(FILES)).lease("s3://b/m/1")
    lost.release()
    (Path(lost.path).parent / "entry.json").write_text("")
    cache(tmp_path).start()
    assert names(tmp_path) == set()


def test_where_the_cache_can_not_be_cleaned_the_server_starts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    cache(tmp_path).start()
    assert f"model cache {tmp_path} is not cleaned: Permission denied" in caplog.text


def test_stopping_cancels_what_is_under_way_and_allows_no_more(tmp_path: Path):
    store = MemoryStore({"f": b"x"})
    models = cache(tmp_path, store)
    kept = models.lease("s3://b/m/1")
    store.contents["f"] = b"y"
    store.on_read = models.stop
    with pytest.raises(Cancelled):
        models.lease("s3://b/m/1")
    with pytest.raises(Cancelled):
        models.lease("s3://b/m/1")
    assert store.reads == 2
    assert contents(kept.path) == {"f": b"x"}


def test_only_this_user_can_read_the_cache(tmp_path: Path):
    cache(tmp_path / "cache", MemoryStore({"f": b""})).lease("s3://b/m/1")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_the_default_directory_is_the_users_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert ModelCacheOptions().path == Path("/var/cache/me/model_server")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert ModelCacheOptions().path == Path("/home/me/.cache/model_server")
    assert ModelCacheOptions("/cache").path == Path("/cache")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)
    assert ModelCacheOptions().path == Path("/var/cache/model_server")


def test_the_size_is_that_of_the_files_in_their_store(tmp_path: Path):
    models = cache(tmp_path / "cache", MemoryStore({"a": b"123", "b": b"45"}))
    assert models.size_bytes("s3://b/m/1") == 5
    assert not (tmp_path / "cache").exists()


def test_a_negative_limit_is_refused():
    with pytest.raises(InvalidArgument, match="at least 0, not -1"):
        ModelCacheOptions(max_bytes=-1)
